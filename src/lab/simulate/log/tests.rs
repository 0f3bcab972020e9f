use super::read;

const NAME: &str = "/v2/persons/~current/profile/name";

/// A line that ended at a second of a minute.
fn line(second: f64, total_ms: f64, skill: &str, cache: &str, trace_id: Option<&str>) -> String {
    let line = serde_json::json!({
        "timestamp": format!("2026-11-24T07:00:{second:09.6}Z"), "level": "INFO",
        "message": "request", "target": "alexa_gateway::request", "request_id": "1",
        "trace_id": trace_id, "method": "GET", "template": NAME, "region": "eu",
        "family": "profile", "skill": format!("amzn1.ask.skill.{skill}"), "status": 200,
        "cache": cache, "total_ms": total_ms,
    });
    format!("{line}\n")
}

fn turns(log: &str) -> Vec<u32> {
    let read = read(log.as_bytes()).unwrap();
    read.trace.requests().map(|request| request.turn).collect()
}

#[test]
fn requests_are_ordered_by_when_they_began() {
    let log = line(5.0, 100.0, "b", "miss", None) + &line(4.0, 2500.0, "a", "miss", None);
    let read = read(log.as_bytes()).unwrap();
    let requests: Vec<_> = read.trace.requests().collect();
    let at: Vec<_> = requests
        .iter()
        .map(|request| request.at.as_millis())
        .collect();
    assert_eq!(at, [0, 3400]);
    let first = &read.trace.skills[requests[0].skill as usize];
    assert_eq!(first.as_ref().unwrap().as_str(), "amzn1.ask.skill.a");
}

#[test]
fn hits_and_collapsed_requests_share_the_token_of_the_latest_call() {
    let log = line(1.0, 60.0, "a", "miss", None)
        + &line(1.0, 50.0, "a", "collapsed", None)
        + &line(2.0, 0.1, "a", "hit", None)
        + &line(3.0, 60.0, "a", "miss", None)
        + &line(4.0, 0.1, "a", "hit", None)
        + &line(5.0, 60.0, "b", "miss", None)
        + &line(6.0, 60.0, "a", "request", None);
    assert_eq!(turns(&log), [0, 0, 0, 1, 1, 2, 1]);
}

#[test]
fn requests_of_one_trace_id_are_one_turn() {
    let log = line(1.0, 60.0, "a", "miss", Some("x"))
        + &line(2.0, 60.0, "a", "miss", Some("y"))
        + &line(3.0, 60.0, "a", "miss", Some("x"))
        + &line(4.0, 0.1, "a", "hit", Some("z"))
        + &line(5.0, 60.0, "b", "miss", Some("x"));
    assert_eq!(turns(&log), [0, 1, 0, 0, 2]);
}

#[test]
fn other_lines_are_counted_and_a_log_without_requests_is_an_error() {
    let noise = "{\"target\":\"alexa_gateway\",\"message\":\"stopped\"}\nnot json\n\n\
        {\"timestamp\":\"2026-11-24T07:00:00Z\",\"target\":\"alexa_gateway::request\",\
         \"method\":\"GET\",\"status\":400,\"total_ms\":0.1}\n";
    let log = noise.to_owned() + &line(1.0, 60.0, "a", "miss", None);
    let found = read(log.as_bytes()).unwrap();
    assert_eq!((found.requests, found.skipped), (1, 3));
    let error = read(noise.as_bytes()).unwrap_err().to_string();
    assert!(error.contains("none of its 3 lines") && error.contains("log.format"));
    assert!(read(&b""[..]).is_err());
}

#[test]
fn a_log_with_a_wrong_date_is_an_error() {
    let long_ago = line(1.0, 60.0, "a", "miss", None).replace("2026-11-24", "1970-01-01");
    let log = line(1.0, 60.0, "a", "miss", None) + &long_ago;
    let error = read(log.as_bytes()).unwrap_err().to_string();
    assert!(
        error.contains("56years") && error.contains("7days"),
        "{error}"
    );
}
