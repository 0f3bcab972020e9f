//! `simulate` as a process: a log of the program itself, and traffic made up.

use alexa_gateway::lab::mock::{Mock, MockConfig};
use alexa_gateway::region::Region;
use serde_json::Value;

use crate::support::alexa::upstreams;
use crate::support::client::Client;
use crate::support::command::{Command, TempDir, program};
use crate::support::{GIVEN_NAME, NAME, token};

async fn simulate(arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["simulate"], arguments].concat();
    let output = program(&arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[tokio::test]
async fn the_log_of_a_gateway_is_replayed() {
    let mock = Mock::start(MockConfig::default()).await.unwrap();
    let dir = TempDir::new();
    dir.write("g.toml", &upstreams(|region| mock.address(region)));
    let command = Command::serve(&dir.path("g.toml")).await;
    let client = Client::new(command.address);
    for (region, targets) in [
        (Region::Eu, [NAME, GIVEN_NAME, NAME, NAME]),
        (Region::Fe, [NAME, NAME, GIVEN_NAME, "/v1/alerts/reminders"]),
    ] {
        let token = token(region);
        for target in targets {
            let reply = client.get(target).token(&token).send().await;
            let id = reply.header("alexa-gateway-request-id").to_owned();
            command
                .log_line("the request's line", |line| line.contains(&id))
                .await;
        }
    }
    dir.write("gateway.log", &command.log());
    command.stop().await;
    mock.shutdown().await;

    // The upstreams of the file are gone; nothing is to be called.
    dir.write(
        "none.toml",
        "[cache.templates.person_name]\nenabled = false",
    );
    let [log, one, none] = ["gateway.log", "g.toml", "none.toml"].map(|name| dir.path(name));
    let [log, one, none] = [&log, &one, &none].map(|path| path.to_str().unwrap());
    let (code, out, told) =
        simulate(&["--json", "--trace", log, "--config", one, "--config", none]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("8 requests"), "{told}");
    let columns: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(columns.len(), 2);
    for (column, (name, shared)) in columns.iter().zip([("g.toml", 3), ("none.toml", 0)]) {
        assert_eq!(column["config"], name);
        let field = |name: &str| column[name].as_u64().unwrap();
        assert_eq!((field("asked"), field("served")), (8, 8), "{name}: {out}");
        // The requests were so close that they may share a call, or its answer.
        assert_eq!(field("hits") + field("collapsed"), shared, "{name}: {out}");
        assert_eq!(field("attempts"), 8 - shared, "{name}: {out}");
    }
}

#[tokio::test]
async fn made_up_traffic_ends_in_a_table_and_a_plot() {
    let dir = TempDir::new();
    dir.write(
        "kept.toml",
        "[limits.profile]\nskill = { requests = 5, per = '1s' }",
    );
    dir.write("open.toml", "");
    let [kept, open, plot] = ["kept.toml", "open.toml", "plot.svg"].map(|name| dir.path(name));
    let [kept, open, plot] = [&kept, &open, &plot].map(|path| path.to_str().unwrap());
    let traffic = [
        "--duration",
        "20s",
        "--rate",
        "60",
        "--skills",
        "3",
        "--skill-quota",
        "5/1s",
    ];
    let files = ["--config", kept, "--config", open, "--plot", plot];
    let (code, out, told) = simulate(&[&traffic[..], &files].concat()).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let row = |name: &str| {
        let row = out.lines().find(|line| line.contains(name)).unwrap();
        let cells = row.split(['│', '┆']).map(str::trim);
        cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(row("kept.toml"), ["kept.toml", "open.toml"]);
    let throttled = row("429s that Alexa answered");
    assert_eq!(throttled[1], "0", "{out}");
    assert_ne!(throttled[2], "0", "{out}");
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("kept.toml") && svg.contains("open.toml"));
}

#[tokio::test]
async fn what_cannot_be_simulated_is_told_in_words() {
    let dir = TempDir::new();
    dir.write("bad.toml", "[cache]\nttl = 5");
    dir.write("worse.toml", "[nonsense]");
    dir.write("empty.log", "not a log\n");
    let [bad, worse, log] = ["bad.toml", "worse.toml", "empty.log"].map(|name| dir.path(name));
    let [bad, worse, log] = [&bad, &worse, &log].map(|path| path.to_str().unwrap());
    let (code, _, told) = simulate(&["--config", bad, "--config", worse]).await;
    assert_eq!(code, Some(64));
    assert!(told.contains(&format!("{bad}:2: cache.ttl: ")), "{told}");
    assert!(told.contains(&format!("{worse}:1: nonsense: ")), "{told}");
    let (code, _, told) = simulate(&["--timeouts", "0.6", "--resets", "0.6"]).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("more than 1"), "{told}");
    for (arguments, code, words) in [
        (["--trace", log], 1, "none of its 1 lines"),
        (["--trace", "absent.log"], 1, "absent.log"),
        (["--skills", "0"], 2, "at least 1"),
        (["--outage", "eu"], 2, "eu@10m+2m"),
        (["--skill-quota", "20"], 2, "requests/duration"),
        (["--timeouts", "2"], 2, "from 0 to 1"),
    ] {
        let (exit, _, told) = simulate(&arguments).await;
        assert_eq!(exit, Some(code), "{arguments:?}: {told}");
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
}
