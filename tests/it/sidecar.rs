//! The sidecar: the program built without the laboratory. Cargo builds the tests with
//! it, so `tests/run` builds the sidecar apart and passes its path.

use std::process::Output;

use tokio::process::Command as Process;

use crate::support::command::Command;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/example.toml");

fn sidecar(arguments: &[&str]) -> Process {
    let path = std::env::var_os("ALEXA_GATEWAY_SIDECAR");
    let mut process = Process::new(path.expect("ALEXA_GATEWAY_SIDECAR is the path of the sidecar"));
    process.args(arguments);
    process
}

async fn output(arguments: &[&str]) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = sidecar(arguments).output().await.unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code(), text)
}

#[tokio::test]
#[ignore = "needs the sidecar, which tests/run builds"]
async fn the_sidecar_serves_until_sigterm() {
    let command = Command::start(sidecar(&["serve", "--config", EXAMPLE])).await;
    let healthy = command.admin().get("/-/healthy").send().await;
    healthy.expect_status(200);
    command.stop().await;
}

#[tokio::test]
#[ignore = "needs the sidecar, which tests/run builds"]
async fn the_sidecar_has_no_other_commands_than_serve_and_check() {
    let (code, told) = output(&["check", "--config", EXAMPLE]).await;
    assert_eq!(code, Some(0), "{told}");
    let (code, help) = output(&["--help"]).await;
    assert_eq!(code, Some(0), "{help}");
    let commands = help.split_once("Commands:\n").unwrap().1;
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands
        .map_while(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(commands, ["serve", "check", "help"], "{help}");
    for command in ["demo", "mock", "simulate", "token"] {
        let (code, told) = output(&[command, "--help"]).await;
        assert_eq!(code, Some(2), "{command}: {told}");
        assert!(told.contains("feature `lab`"), "{command}: {told}");
    }
}
