//! The official SDKs get all three values through the gateway, with nothing but
//! the README's recipes (`tests/sdk`). The SDKs are installed by their own package
//! managers on the first run; where node or python is absent, that is printed.

use std::path::{Path, PathBuf};
use std::process::Command;

use alexa_gateway::lab::mock::{
    Mock, MockBehaviour, MockConfig, NameShape, Person, TokenScenario, TokenSpec,
};
use alexa_gateway::region::Region;
use serde_json::{Value, json};

use crate::support::alexa::upstreams;
use crate::support::gateway::TestGateway;
use crate::support::{eventually, within};

/// Runs a command to its end, or tells how it failed.
fn run(directory: &Path, program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("skipped: there is no {program} on this machine; ./tests/run installs it");
    }
    found
}

/// A fresh copy of the scripts, beside what was installed for them before.
fn copied(sdk: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdk")
        .join(sdk);
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sdk").join(sdk);
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    to
}

/// Runs `install` unless it has been done for these very requirements.
fn installed_once(directory: &Path, requirements: &str, install: impl FnOnce()) {
    let wanted = std::fs::read(directory.join(requirements)).unwrap();
    let done = directory.join("installed");
    if std::fs::read(&done).ok().as_ref() != Some(&wanted) {
        install();
        std::fs::write(done, wanted).unwrap();
    }
}

/// Invokes the skill once per token and answers what its handler was given.
async fn invoke(
    directory: &Path,
    program: PathBuf,
    script: &str,
    mode: &str,
    gateway: &TestGateway,
    tokens: &[String],
) -> Vec<Value> {
    let mut command = tokio::process::Command::new(program);
    command
        .arg(script)
        .current_dir(directory)
        .kill_on_drop(true);
    command.args([
        "--gateway",
        &format!("http://{}", gateway.server.addresses()[0]),
    ]);
    command.args([
        "--endpoint",
        "https://api.eu.amazonalexa.com",
        "--mode",
        mode,
    ]);
    for token in tokens {
        command.args(["--token", token]);
    }
    let output = within("the skill", command.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    line["results"].as_array().unwrap().clone()
}

/// What differs between the SDKs in what they make of an answer.
struct Dialect {
    nothing: &'static str,
    number: fn(&Person) -> Value,
    name: fn(NameShape, &str) -> Value,
    no_consent: Value,
}

/// Lets a real skill ask for everything, in both shapes of a name.
async fn try_sdk(
    directory: &Path,
    program: PathBuf,
    script: &str,
    modes: &[&str],
    dialect: Dialect,
) {
    for shape in [NameShape::Object, NameShape::String] {
        for mode in modes {
            let behaviour = MockBehaviour {
                name_shape: shape,
                ..MockBehaviour::default()
            };
            let mock = Mock::start(MockConfig {
                behaviour,
                ..MockConfig::default()
            })
            .await
            .unwrap();
            let gateway = TestGateway::start(&upstreams(|region| mock.address(region))).await;
            let mint = |scenario| {
                TokenSpec {
                    region: Region::Eu,
                    person: Some("太郎 山田".into()),
                    scenario,
                    ..TokenSpec::default()
                }
                .mint()
            };
            let tokens = [
                TokenScenario::Ok,
                TokenScenario::NoValue,
                TokenScenario::NoConsent,
            ]
            .map(mint);
            let person = Person::of_token(&tokens[0]);
            let results = invoke(directory, program.clone(), script, mode, &gateway, &tokens).await;
            let [ok, no_value, no_consent] = &results[..] else {
                panic!("{results:?}")
            };
            assert_eq!(ok["name"], (dialect.name)(shape, &person.name), "{mode}");
            assert_eq!(
                ok["givenName"],
                (dialect.name)(shape, &person.given_name),
                "{mode}"
            );
            assert_eq!(ok["mobileNumber"], (dialect.number)(&person), "{mode}");
            let nothing = json!({ "type": dialect.nothing, "value": null });
            assert_eq!(no_value["name"], nothing, "{mode}");
            for result in [ok, no_value] {
                assert_eq!(
                    result["progressive"], nothing,
                    "{mode}: the directive was sent"
                );
            }
            for (key, value) in dialect.no_consent.as_object().unwrap() {
                assert_eq!(&no_consent["name"][key], value, "{mode}: {no_consent}");
            }
            // Three tokens, each with three values and one progressive response.
            eventually("Europe alone was called", || {
                let calls = Region::ALL.map(|region| mock.counters().region(region).requests);
                calls == [0, 12, 0]
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_skills_get_all_three_values() {
    if !is_installed("node") || !is_installed("npm") {
        return;
    }
    let directory = copied("node");
    installed_once(&directory, "package-lock.json", || {
        run(&directory, "npm", &["ci", "--no-audit", "--no-fund"]);
    });
    let dialect = Dialect {
        nothing: "undefined",
        number: |person| {
            let value =
                json!({ "countryCode": person.country_code, "phoneNumber": person.phone_number });
            json!({ "type": "object", "value": value })
        },
        name: |shape, name| match shape {
            NameShape::Object => json!({ "type": "object", "value": { "name": name } }),
            NameShape::String => json!({ "type": "string", "value": name }),
        },
        no_consent: json!({ "error": "ServiceError", "statusCode": 403 }),
    };
    try_sdk(
        &directory,
        "node".into(),
        "run.js",
        &["client", "event"],
        dialect,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_skills_get_all_three_values() {
    if !is_installed("python3") {
        return;
    }
    let directory = copied("python");
    let python = directory.join("venv/bin/python");
    installed_once(&directory, "requirements.txt", || {
        run(&directory, "python3", &["-m", "venv", "venv"]);
        let python = python.to_str().unwrap();
        run(
            &directory,
            python,
            &["-m", "pip", "install", "--quiet", "-r", "requirements.txt"],
        );
    });
    let dialect = Dialect {
        nothing: "NoneType",
        number: |person| {
            let value =
                json!({ "country_code": person.country_code, "phone_number": person.phone_number });
            json!({ "type": "PhoneNumber", "value": value })
        },
        // The SDK expects a string, and turns the documented object into one.
        name: |shape, name| match shape {
            NameShape::Object => json!({ "type": "str", "value": format!("{{'name': '{name}'}}") }),
            NameShape::String => json!({ "type": "str", "value": name }),
        },
        // A status is lost for every code that the SDK does not know, without the
        // gateway as well.
        no_consent: json!({ "error": "SerializationException" }),
    };
    try_sdk(&directory, python.clone(), "run.py", &["client"], dialect).await;
}
