//! nginx with one worker, in the foreground, with its own configuration and folder, apart
//! from any nginx of the machine.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::process::{Process, find};

/// Where nginx is, if it is installed.
pub(crate) fn program() -> Option<PathBuf> {
    find("nginx")
}

/// How many files nginx may have open, sockets included.
pub(crate) fn files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(65_536)
}

/// Starts nginx in `folder` with what stands inside `http { … }`, and waits until
/// it accepts connections at `address`.
///
/// # Errors
/// The folder cannot be written, or nginx does not start.
pub(crate) async fn start(
    program: &Path,
    folder: &Path,
    http: &str,
    address: SocketAddr,
    core: Option<usize>,
) -> anyhow::Result<Process> {
    fs::create_dir_all(folder)?;
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("    {kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    // The worker keeps the user that starts it, who owns the folder. Heads with a
    // token fit the first buffer; connections are kept as long as the clients do.
    let text = format!(
        "daemon off;\n\
         {user}worker_processes 1;\n\
         worker_rlimit_nofile {files};\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr error;\n\
         events {{ worker_connections 16384; }}\n\
         http {{\n\
         {temporary}    \
             access_log off;\n    \
             client_header_buffer_size 4k;\n    \
             keepalive_timeout 300s;\n    \
             keepalive_requests 1000000000;\n\
         {http}\n\
         }}\n",
        user = if rustix::process::geteuid().is_root() {
            "user root;\n"
        } else {
            ""
        },
        files = files(),
        folder = folder.display(),
    );
    let config = folder.join("nginx.conf");
    fs::write(&config, text)?;
    let word = |path: &Path| path.display().to_string();
    let args = ["-e", "stderr", "-p", &word(folder), "-c", &word(&config)].map(str::to_owned);
    let mut nginx = Process::start(program, &args, core, &folder.join("log"))?;
    nginx.listening(address).await?;
    Ok(nginx)
}
