//! The load itself, checked: the same hits, made by wrk. What a request costs a peer
//! must not depend on who asks.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use crate::bench::{Bench, ScenarioResult};
use crate::call::Calls;
use crate::load::CONNECTIONS;
use crate::peer::{Peer, Running};
use crate::process::find;
use crate::table::Table;

use super::warm::{ENTRIES, Warm};

/// The requests are made beforehand, byte for byte those of the own load.
const SCRIPT: &str = r#"
local requests = {}
for request in io.open("REQUESTS", "rb"):read("*a"):gmatch("[^%z]+") do
  requests[#requests + 1] = request
end
request = function() return requests[math.random(#requests)] end
"#;

pub(super) async fn run(bench: &Bench) -> anyhow::Result<ScenarioResult> {
    let program = find("wrk").context("wrk is not installed (Debian: apt-get install wrk)")?;
    let mut warm = Warm::new(bench).await?;
    let peers = [Peer::Floor, Peer::Gateway, Peer::Nginx];
    let peers = warm.start(bench, &peers, false).await?;
    let (calls, script) = (warm.any(), script(bench, &warm.each())?);
    let mut table = Table::new(
        "The load, checked by wrk",
        "The hits of the first table, made by this program and by wrk.",
        &["CPU per request, µs", "requests/s", "p50, µs", "p99, µs"],
    );
    for _ in 0..bench.options.rounds {
        for (peer, running) in &peers {
            let own = running.measure(bench, &calls, None).await?;
            table.add(peer, &own[..4]);
            let wrk = wrk(bench, &program, &script, running).await?;
            table.add(format!("{peer}, by wrk"), &wrk);
        }
    }
    warm.only_hits().await?;
    Ok(ScenarioResult {
        tables: vec![table],
        promises: Vec::new(),
    })
}

/// Writes what wrk needs, and returns the words that name it.
fn script(bench: &Bench, calls: &Calls) -> anyhow::Result<String> {
    let folder = bench.fresh_folder("wrk")?;
    let (mut all, mut request) = (Vec::new(), Vec::new());
    for _ in 0..ENTRIES {
        calls.write_next(&mut request);
        all.extend_from_slice(&request);
        all.push(0);
    }
    let requests = folder.join("requests");
    fs::write(&requests, all)?;
    let script = folder.join("wrk.lua");
    fs::write(
        &script,
        SCRIPT.replace("REQUESTS", &requests.display().to_string()),
    )?;
    Ok(script.display().to_string())
}

/// One round, on the core of this program, which waits meanwhile.
async fn wrk(
    bench: &Bench,
    program: &Path,
    script: &str,
    peer: &Running,
) -> anyhow::Result<[f64; 4]> {
    let seconds = bench.options.time.as_secs().max(1).to_string();
    let connections = CONNECTIONS.to_string();
    let url = format!("http://{}/", peer.address);
    let args = [
        "-t",
        "1",
        "-c",
        &connections,
        "-d",
        &seconds,
        "--latency",
        "-s",
        script,
        &url,
    ];
    let before = peer.cpu()?;
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let cpu = peer.cpu()? - before;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && !said.contains("Non-2xx") && !said.contains("Socket errors"),
        "wrk: {said}"
    );
    let after = |label: &str| {
        let (_, rest) = said.split_once(label)?;
        rest.split_ascii_whitespace().next()
    };
    let figure = |label: &str| after(label).with_context(|| format!("wrk without {label}: {said}"));
    let rate: f64 = figure("Requests/sec:")?.parse()?;
    let (requests, _) = said
        .split_once(" requests in")
        .context("wrk without requests")?;
    let requests = requests.split_ascii_whitespace().last().unwrap_or_default();
    let requests: f64 = requests.parse()?;
    Ok([
        cpu / requests,
        rate,
        microseconds(figure("50%")?)?,
        microseconds(figure("99%")?)?,
    ])
}

/// A time as wrk writes it, such as `1.25ms`.
fn microseconds(time: &str) -> anyhow::Result<f64> {
    let number = time.trim_end_matches(|letter: char| letter.is_alphabetic());
    let unit = match &time[number.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => bail!("wrk says {time}"),
    };
    Ok(unit * number.parse::<f64>()?)
}
