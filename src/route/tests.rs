use std::sync::Arc;

use http::uri::PathAndQuery;

use super::path::{BadPath, PathTemplate};
use super::*;
use crate::cache::policy::Freshness;
use crate::region::Region;

fn table() -> RouteTable {
    let upstreams = Region::ALL
        .map(|region| UpstreamUrl::parse(&format!("https://{}", region.host())).unwrap());
    let rule = Rule {
        name: "person_name".into(),
        template: PathTemplate::parse("/v2/persons/~current/profile/name").unwrap(),
        freshness: Freshness::default(),
    };
    let aliases = vec![("api.fe.amazon.com".into(), Region::Fe)];
    RouteTable::new(upstreams, aliases, Region::Na, vec![Arc::new(rule)])
}

fn decide(evidence: Evidence<'_>) -> Result<(Region, Decider), RouteError> {
    table()
        .route(&evidence)
        .map(|route| (route.region, route.decider))
}

/// Evidence of every kind, naming different regions.
fn everything() -> Evidence<'static> {
    Evidence {
        api_endpoint: Some("https://api.fe.amazonalexa.com"),
        absolute_form: Some("api.eu.amazonalexa.com"),
        host: Some("api.amazonalexa.com"),
        listener: Some(Region::Eu),
        audience: Some("https://api.amazonalexa.com"),
        path: "/fe/v2/x",
        query: None,
        target: None,
    }
}

#[test]
fn the_first_evidence_in_order_decides() {
    let mut evidence = everything();
    assert_eq!(
        decide(evidence.clone()),
        Ok((Region::Fe, Decider::ApiEndpoint))
    );
    evidence.api_endpoint = None;
    assert_eq!(
        decide(evidence.clone()),
        Ok((Region::Eu, Decider::AbsoluteForm))
    );
    evidence.absolute_form = None;
    assert_eq!(decide(evidence.clone()), Ok((Region::Na, Decider::Host)));
    evidence.host = Some("gateway.internal:2773");
    assert_eq!(decide(evidence.clone()), Ok((Region::Fe, Decider::Prefix)));
    evidence.path = "/v2/x";
    assert_eq!(
        decide(evidence.clone()),
        Ok((Region::Eu, Decider::Listener))
    );
    evidence.listener = None;
    evidence.audience = Some("https://api.eu.amazonalexa.com");
    assert_eq!(
        decide(evidence.clone()),
        Ok((Region::Eu, Decider::Audience))
    );
    evidence.audience = None;
    assert_eq!(decide(evidence), Ok((Region::Na, Decider::Default)));
}

#[test]
fn a_region_has_several_names() {
    for endpoint in [
        "https://api.fe.amazonalexa.com",
        "https://api.fe.amazonalexa.com/",
        "HTTPS://API.FE.amazonalexa.com:443",
        "https://api.fe.amazon.com",
    ] {
        let evidence = Evidence {
            api_endpoint: Some(endpoint),
            path: "/",
            ..Evidence::default()
        };
        assert_eq!(
            decide(evidence),
            Ok((Region::Fe, Decider::ApiEndpoint)),
            "{endpoint}"
        );
    }
}

#[test]
fn an_endpoint_that_is_not_a_region_is_misdirected() {
    for endpoint in [
        "https://evil.example",
        "https://api---fe.amazon.com.rproxy.goskope.com",
        "https://api.eu.amazonalexa.com.evil.example",
        "https://api.eu.amazonalexa.com@evil.example",
        "https://evil@api.eu.amazonalexa.com",
        "https://api.eu.amazonalexa.com:8443",
        "https://evil.example/https://api.eu.amazonalexa.com",
        "https://evil.example\\@api.eu.amazonalexa.com",
        "ftp://api.eu.amazonalexa.com",
        "api.eu.amazonalexa.com",
        "",
    ] {
        let evidence = Evidence {
            api_endpoint: Some(endpoint),
            path: "/",
            ..Evidence::default()
        };
        assert!(
            matches!(decide(evidence), Err(RouteError::Misdirected(_))),
            "{endpoint}"
        );
    }
}

#[test]
fn an_absolute_target_that_is_not_a_region_is_misdirected() {
    for authority in ["evil.example", "localhost:2773", "a@api.eu.amazonalexa.com"] {
        let evidence = Evidence {
            absolute_form: Some(authority),
            path: "/",
            ..Evidence::default()
        };
        assert!(
            matches!(decide(evidence), Err(RouteError::Misdirected(_))),
            "{authority}"
        );
    }
}

#[test]
fn an_audience_that_is_not_a_region_is_ignored() {
    let evidence = Evidence {
        audience: Some("https://evil.example"),
        path: "/",
        ..Evidence::default()
    };
    assert_eq!(decide(evidence), Ok((Region::Na, Decider::Default)));
}

#[test]
fn explicit_evidence_beats_the_audience_and_the_contradiction_is_reported() {
    let route = table().route(&everything()).unwrap();
    assert_eq!(
        (route.region, route.contradicts_audience),
        (Region::Fe, Some(Region::Na))
    );
}

#[test]
fn the_prefix_is_removed_even_if_it_does_not_decide() {
    let route = table().route(&everything()).unwrap();
    assert_eq!(route.target, "/v2/x");
    for (path, target) in [("/eu", "/"), ("/eu/", "/"), ("/europe/x", "/europe/x")] {
        let route = table()
            .route(&Evidence {
                path,
                ..Evidence::default()
            })
            .unwrap();
        assert_eq!(route.target, target);
    }
}

#[test]
fn a_prefix_cannot_smuggle_a_second_slash() {
    let evidence = Evidence {
        path: "/eu//evil.example",
        ..Evidence::default()
    };
    assert_eq!(
        decide(evidence),
        Err(RouteError::BadPath(BadPath::LeadingDoubleSlash))
    );
}

#[test]
fn a_path_with_a_rule_is_sent_in_canonical_form_and_any_other_unchanged() {
    let route = |path, query| {
        table()
            .route(&Evidence {
                path,
                query,
                ..Evidence::default()
            })
            .unwrap()
    };
    let ruled = route("/eu/v2/persons/%7Ecurrent/profile/name", Some("a=%7e"));
    assert_eq!(ruled.target, "/v2/persons/~current/profile/name?a=~");
    assert_eq!(ruled.rule.unwrap().name, "person_name");
    let other = route("/v1/%7Ethings", Some("a=%7e"));
    assert_eq!(other.target, "/v1/%7Ethings?a=%7e");
    assert!(other.rule.is_none());
}

#[test]
fn an_upstream_shared_by_all_regions_names_none() {
    let shared = UpstreamUrl::parse("http://127.0.0.1:9/eu").unwrap();
    let table = RouteTable::new(
        [shared.clone(), shared.clone(), shared],
        vec![],
        Region::Na,
        vec![],
    );
    let evidence = Evidence {
        absolute_form: Some("127.0.0.1:9"),
        path: "/",
        ..Evidence::default()
    };
    assert!(table.route(&evidence).is_err());
    let uri = table
        .upstream(Region::Eu)
        .join(&PathAndQuery::from_static("/v2?x"))
        .unwrap();
    assert_eq!(uri, "http://127.0.0.1:9/eu/v2?x");
}
