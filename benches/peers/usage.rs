//! Processor time and memory of a process and its descendants, as the kernel counts.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::Duration;

/// The processor time of one process, its threads included.
///
/// # Errors
/// There is no such process.
pub(crate) fn cpu_of(id: u32) -> io::Result<Duration> {
    let fields = stat(id)?;
    // utime and stime of proc_pid_stat(5), in ticks.
    let ticks = number(&fields, 11) + number(&fields, 12);
    let tick = Duration::from_secs(1) / rustix::param::clock_ticks_per_second() as u32;
    Ok(tick * ticks as u32)
}

/// The processor time of a process and its descendants.
///
/// # Errors
/// There is no such process.
pub(crate) fn cpu_of_tree(root: u32) -> io::Result<Duration> {
    tree(root)?.into_iter().map(cpu_of).sum()
}

/// The resident memory of a process and its descendants in bytes. Shared pages count
/// once.
///
/// # Errors
/// There is no such process, or its memory may not be looked at.
pub(crate) fn memory_of_tree(root: u32) -> io::Result<u64> {
    let processes = tree(root)?;
    let kind = if processes.len() == 1 { "Rss:" } else { "Pss:" };
    processes.into_iter().map(|id| memory_of(id, kind)).sum()
}

fn memory_of(id: u32, kind: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(kind));
    let kilobytes = kilobytes.and_then(|rest| rest.trim().strip_suffix("kB"));
    let kilobytes: Option<u64> = kilobytes.and_then(|number| number.trim().parse().ok());
    kilobytes
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| io::Error::other(format!("smaps_rollup without {kind}")))
}

/// The process and its descendants.
fn tree(root: u32) -> io::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may have ended since the folder was read.
        if let Ok(fields) = stat(id) {
            let parent = number(&fields, 1) as u32;
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(id) = found.get(next) {
        found.extend(children.remove(id).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

/// The fields that follow the name, which may have spaces in it.
fn stat(id: u32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let (_, fields) = text.rsplit_once(") ").unwrap_or_default();
    Ok(fields.split_ascii_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], at: usize) -> u64 {
    fields
        .get(at)
        .and_then(|field| field.parse().ok())
        .unwrap_or_default()
}
