//! The end of a load: all callers, or the first failure.

use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Waits for all callers; fails with the first that fails.
pub(crate) async fn finish<E>(
    mut callers: JoinSet<Result<(), E>>,
    bound: Duration,
) -> anyhow::Result<()>
where
    E: Into<anyhow::Error> + 'static,
{
    let all = async {
        while let Some(ended) = callers.join_next().await {
            ended?.map_err(Into::into)?;
        }
        anyhow::Ok(())
    };
    timeout(bound, all)
        .await
        .context("calls without a response")?
}
