//! Reads a response body to its end.

use std::mem;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::client::ResponseBody;
use super::failure::Failure;
use crate::error::Kind;

/// Collects a body of at most `limit` bytes; trailers are dropped. A body of one frame,
/// as most are, is not copied.
///
/// # Errors
/// The body is cut off, or larger than `limit`.
pub(super) async fn collect_limited(
    mut body: ResponseBody,
    limit: usize,
) -> Result<Bytes, Failure> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else {
            break;
        };
        let frame = frame.map_err(Failure::reading_body)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > limit - first.len().max(all.len()) {
            return Err(Kind::AnswerTooLarge.into());
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    let is_one_frame = all.is_empty();
    Ok(if is_one_frame { first } else { all.freeze() })
}
