use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use tokio::time::Instant;

use super::{Alexa, AlexaModel, Outage, OutageKind};
use crate::body::Body;
use crate::error::Kind;
use crate::lab::simulate::recorder::Recorder;
use crate::lab::simulate::report::{Counts, Report};
use crate::lab::simulate::token::Tokens;
use crate::region::Region;
use crate::token::SkillId;
use crate::upstream::client::Modelled;

const MS: Duration = Duration::from_millis(1);

struct Rig {
    model: Arc<AlexaModel>,
    recorder: Recorder,
    request: Request<Body>,
}

impl Rig {
    fn new(alexa: &Alexa) -> Self {
        let skills = [SkillId::parse("amzn1.ask.skill.one")];
        let recorder = Recorder::start(Report::new(Duration::ZERO, &skills));
        let model = AlexaModel::new(alexa, &skills, Instant::now(), 1, recorder.clone());
        let mut request = Request::new(crate::body::whole(Bytes::new()));
        let token = Tokens::new(skills[0].as_ref(), 0).of(Region::Eu, 7);
        request.headers_mut().insert(AUTHORIZATION, token);
        Self {
            model: Arc::new(model),
            recorder,
            request,
        }
    }

    fn call(&self) -> Modelled {
        self.model.call(&self.request)
    }

    fn counts(&self) -> Counts {
        self.recorder
            .report()
            .region(Region::Eu, Duration::ZERO..Duration::MAX)
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_answered_within_latency_and_jitter() {
    let rig = Rig::new(&Alexa::default());
    let mut times = Vec::new();
    for _ in 0..200 {
        let sent = Instant::now();
        assert_eq!(rig.call().await.unwrap().status(), 200);
        times.push(sent.elapsed());
    }
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!((40 * MS..46 * MS).contains(least), "{least:?}");
    assert!((75 * MS..=81 * MS).contains(most), "{most:?}");
    assert_eq!((rig.counts().attempts, rig.counts().accepted), (200, 200));
}

#[tokio::test(start_paused = true)]
async fn a_call_beyond_the_quota_gets_a_429_with_retry_after_if_enabled() {
    for (retry_after, value) in [(true, Some("2")), (false, None)] {
        let rig = Rig::new(&Alexa {
            latency: MS,
            jitter: Duration::ZERO,
            skill_quota: Some("1/2s".parse().unwrap()),
            retry_after,
            ..Alexa::default()
        });
        assert_eq!(rig.call().await.unwrap().status(), 200);
        let refused = rig.call().await.unwrap();
        let header = refused.headers().get(RETRY_AFTER);
        assert_eq!(refused.status(), 429);
        assert_eq!(header.map(|value| value.to_str().unwrap()), value);
        assert_eq!((rig.counts().accepted, rig.counts().throttled), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_calls_count_and_calls_during_an_outage_do_not() {
    let out = |kind| Outage {
        region: Region::Eu,
        from: 100 * MS,
        length: 100 * MS,
        kind,
    };
    let rig = Rig::new(&Alexa {
        timeouts: 1.0,
        outages: vec![out(OutageKind::Silent)],
        ..Alexa::default()
    });
    let given_up = tokio::time::timeout(2 * MS, rig.call());
    assert!(given_up.await.is_err());
    assert_eq!((rig.counts().attempts, rig.counts().accepted), (1, 1));
    tokio::time::sleep(110 * MS).await;
    assert!(tokio::time::timeout(50 * MS, rig.call()).await.is_err());
    assert_eq!((rig.counts().attempts, rig.counts().accepted), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_visible_to_the_caller() {
    let fate = async |alexa: Alexa| {
        let answer = Rig::new(&alexa).call().await;
        answer.map(|answer| answer.status().as_u16())
    };
    let out = |kind| Alexa {
        outages: vec![Outage {
            region: Region::Eu,
            from: Duration::ZERO,
            length: MS,
            kind,
        }],
        ..Alexa::default()
    };
    assert_eq!(fate(out(OutageKind::Refused)).await, Err(Kind::Connect));
    assert_eq!(fate(out(OutageKind::Unavailable)).await, Ok(503));
    let resets = Alexa {
        resets: 1.0,
        ..Alexa::default()
    };
    assert_eq!(fate(resets).await, Err(Kind::AnswerLost));
    let errors = Alexa {
        errors: 1.0,
        ..Alexa::default()
    };
    assert_eq!(fate(errors).await, Ok(500));
}
