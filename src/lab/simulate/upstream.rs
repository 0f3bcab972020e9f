//! The modelled Alexa: what it does to each call, and when.
//!
//! A call is drawn a latency and a fate when it is sent. It reaches Alexa at a
//! random moment on its way, is held against the quotas there, and is answered
//! when its latency is over. A call that the gateway gives up before it got there
//! counts at the moment of giving up: it may be on its way still. The same seed
//! and the same calls meet the same fates.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use tokio::time::{Instant, sleep_until};

use super::book::Book;
use super::token;
use crate::body::Body;
use crate::error::{Kind, whole_seconds};
use crate::lab::window::{QuotaCheck, QuotaWindow, WindowKind, admit_all};
use crate::limits::Quota;
use crate::region::Region;
use crate::token::SkillId;
use crate::upstream::client::Modelled;

/// How Alexa behaves, and when that changes.
#[derive(Clone, Debug)]
pub struct Alexa {
    /// From call to answer.
    pub latency: Duration,
    /// How far an answer may stray from `latency`, uniformly, either way.
    pub jitter: Duration,
    /// What one skill may ask of one region.
    pub skill_quota: Option<Quota>,
    /// What all skills together may ask of one region.
    pub region_quota: Option<Quota>,
    /// What kind of quota both are.
    pub window: WindowKind,
    /// Whether a 429 says when to come back, in whole seconds, rounded up.
    pub retry_after: bool,
    /// The share of calls that Alexa counts and never answers.
    pub timeouts: f64,
    /// The share of calls that Alexa counts and whose connection then breaks.
    pub resets: f64,
    /// The share of calls that Alexa counts and answers 500.
    pub errors: f64,
    /// What changes, in any order.
    pub changes: Vec<Change>,
    /// When a region is not there.
    pub outages: Vec<Outage>,
}

impl Default for Alexa {
    /// Answers everything, in 60 ± 20 ms.
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(60),
            jitter: Duration::from_millis(20),
            skill_quota: None,
            region_quota: None,
            window: WindowKind::Sliding,
            retry_after: false,
            timeouts: 0.0,
            resets: 0.0,
            errors: 0.0,
            changes: Vec::new(),
            outages: Vec::new(),
        }
    }
}

/// Something changes at a moment of the trace.
#[derive(Clone, Debug)]
pub struct Change {
    /// From the start of the trace.
    pub at: Duration,
    /// What.
    pub to: Setting,
}

/// A value that may change.
#[derive(Clone, Debug)]
pub enum Setting {
    /// What every skill may ask of one region.
    SkillQuota(Option<Quota>),
    /// What this skill may ask of one region.
    QuotaOf(SkillId, Option<Quota>),
    /// What all skills together may ask of one region.
    RegionQuota(Option<Quota>),
    /// Latency and jitter.
    Latency(Duration, Duration),
}

/// A region is not there for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Which one.
    pub region: Region,
    /// Since when, from the start of the trace.
    pub from: Duration,
    /// For how long.
    pub length: Duration,
    /// How it shows.
    pub kind: OutageKind,
}

/// How an outage shows to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// No connection can be made.
    Refused,
    /// Nothing is ever answered.
    Silent,
    /// Everything is answered 503.
    Unavailable,
}

/// An Alexa at work.
pub(super) struct Model {
    state: Mutex<State>,
    book: Book,
}

struct State {
    alexa: Alexa,
    skills: Vec<Option<SkillId>>,
    rng: Rng,
    /// How many of the changes are in force.
    changed: usize,
    regions: [QuotaWindow; 3],
    /// The quota of each skill and its windows in each region.
    tenants: Vec<(Option<Quota>, [QuotaWindow; 3])>,
}

/// What is in store for a call.
struct Lot {
    fate: Fate,
    /// Until it reaches Alexa.
    arrives: Duration,
    /// Until it is answered.
    answered: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    TimedOut,
    Reset,
    Error,
    Out(OutageKind),
}

impl Model {
    /// An Alexa for these skills; its fixed windows begin at `origin`.
    pub(super) fn new(
        alexa: &Alexa,
        skills: &[Option<SkillId>],
        origin: Instant,
        seed: u64,
        book: Book,
    ) -> Self {
        let mut alexa = alexa.clone();
        alexa.changes.sort_by_key(|change| change.at);
        let windows = || Region::ALL.map(|_| QuotaWindow::new(alexa.window, origin));
        let state = State {
            skills: skills.to_vec(),
            rng: Rng::with_seed(seed),
            changed: 0,
            regions: windows(),
            tenants: skills
                .iter()
                .map(|_| (alexa.skill_quota, windows()))
                .collect(),
            alexa,
        };
        Self {
            state: Mutex::new(state),
            book,
        }
    }

    /// Takes a call and answers what will come of it.
    pub(super) fn call(self: &Arc<Self>, request: &Request<Body>) -> Modelled {
        let credentials = request.headers().get(AUTHORIZATION);
        let Some((region, skill)) = credentials.and_then(token::owner) else {
            return Box::pin(std::future::ready(Err(Kind::Internal)));
        };
        let lot = self.lock().draw(region, self.book.now());
        self.book.sent(region, skill);
        let call = OnItsWay {
            model: Arc::clone(self),
            region,
            skill,
            arrived: false,
        };
        Box::pin(call.go(lot))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call, which counts once, wherever it is dropped.
struct OnItsWay {
    model: Arc<Model>,
    region: Region,
    skill: u32,
    arrived: bool,
}

impl OnItsWay {
    async fn go(mut self, lot: Lot) -> Result<Response<Bytes>, Kind> {
        let sent = Instant::now();
        if let Fate::Out(kind) = lot.fate {
            self.arrived = true;
            return match kind {
                OutageKind::Silent => std::future::pending().await,
                OutageKind::Refused => {
                    sleep_until(sent + lot.answered).await;
                    Err(Kind::Connect)
                }
                OutageKind::Unavailable => {
                    sleep_until(sent + lot.answered).await;
                    Ok(answer(StatusCode::SERVICE_UNAVAILABLE, REFUSAL))
                }
            };
        }
        sleep_until(sent + lot.arrives).await;
        let verdict = self.arrive();
        if lot.fate == Fate::TimedOut {
            return std::future::pending().await;
        }
        sleep_until(sent + lot.answered).await;
        match (verdict, lot.fate) {
            (_, Fate::Reset) => Err(Kind::AnswerLost),
            (Err(wait), _) => {
                let mut response = answer(StatusCode::TOO_MANY_REQUESTS, REFUSAL);
                if self.model.lock().alexa.retry_after {
                    let seconds = whole_seconds(wait).into();
                    response.headers_mut().insert(RETRY_AFTER, seconds);
                }
                Ok(response)
            }
            (Ok(()), Fate::Error) => Ok(answer(StatusCode::INTERNAL_SERVER_ERROR, REFUSAL)),
            (Ok(()), _) => Ok(answer(StatusCode::OK, NAME)),
        }
    }

    /// Holds the call against the quotas, now.
    fn arrive(&mut self) -> Result<(), Duration> {
        self.arrived = true;
        let verdict = self
            .model
            .lock()
            .admit(self.region, self.skill, self.model.book.now());
        self.model
            .book
            .arrived(self.region, self.skill, verdict.is_ok());
        verdict
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        if !self.arrived {
            // Nobody is there any more to hear what Alexa thinks of it.
            self.arrive().ok();
        }
    }
}

impl State {
    fn draw(&mut self, region: Region, now: Duration) -> Lot {
        self.change(now);
        // Every call throws the same dice, so that a change of one share does not
        // shift the luck of the calls that follow.
        let (luck, stray, way) = (self.rng.f64(), self.rng.f64(), self.rng.f64());
        let alexa = &self.alexa;
        let outage = alexa.outages.iter().find(|outage| {
            let since = now.checked_sub(outage.from);
            outage.region == region && since.is_some_and(|since| since < outage.length)
        });
        let fate = match outage {
            Some(outage) => Fate::Out(outage.kind),
            None if luck < alexa.timeouts => Fate::TimedOut,
            None if luck < alexa.timeouts + alexa.resets => Fate::Reset,
            None if luck < alexa.timeouts + alexa.resets + alexa.errors => Fate::Error,
            None => Fate::Answered,
        };
        let answered =
            (alexa.latency + alexa.jitter.mul_f64(2.0 * stray)).saturating_sub(alexa.jitter);
        Lot {
            fate,
            arrives: answered.mul_f64(way),
            answered,
        }
    }

    fn admit(&mut self, region: Region, skill: u32, now: Duration) -> Result<(), Duration> {
        self.change(now);
        let (quota, windows) = &mut self.tenants[skill as usize];
        let checks = [
            QuotaCheck {
                window: &mut self.regions[region.index()],
                quota: self.alexa.region_quota,
            },
            QuotaCheck {
                window: &mut windows[region.index()],
                quota: *quota,
            },
        ];
        admit_all(checks, Instant::now())
    }

    /// Puts in force what changes until now.
    fn change(&mut self, now: Duration) {
        while let Some(change) = self.alexa.changes.get(self.changed) {
            if change.at > now {
                return;
            }
            match &change.to {
                Setting::SkillQuota(quota) => {
                    self.tenants.iter_mut().for_each(|(own, _)| *own = *quota);
                }
                Setting::QuotaOf(id, quota) => {
                    for (skill, (own, _)) in self.skills.iter().zip(&mut self.tenants) {
                        if skill.as_ref() == Some(id) {
                            *own = *quota;
                        }
                    }
                }
                Setting::RegionQuota(quota) => self.alexa.region_quota = *quota,
                Setting::Latency(latency, jitter) => {
                    (self.alexa.latency, self.alexa.jitter) = (*latency, *jitter);
                }
            }
            self.changed += 1;
        }
    }
}

const NAME: &str = r#"{"name":"Jane Doe"}"#;
const REFUSAL: &str = r#"{"message":"simulated"}"#;

fn answer(status: StatusCode, body: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::super::report::{Counts, Report};
    use super::super::token::Tokens;
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Rig {
        model: Arc<Model>,
        book: Book,
        request: Request<Body>,
    }

    impl Rig {
        fn new(alexa: &Alexa) -> Self {
            let skills = [SkillId::parse("amzn1.ask.skill.one")];
            let book = Book::open(Report::new(Duration::ZERO, &skills));
            let model = Model::new(alexa, &skills, Instant::now(), 1, book.clone());
            let mut request = Request::new(crate::body::whole(Bytes::new()));
            let token = Tokens::new(skills[0].as_ref(), 0).of(Region::Eu, 7);
            request.headers_mut().insert(AUTHORIZATION, token);
            Self {
                model: Arc::new(model),
                book,
                request,
            }
        }

        fn call(&self) -> Modelled {
            self.model.call(&self.request)
        }

        fn counts(&self) -> Counts {
            self.book
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
    async fn a_call_beyond_the_quota_is_told_when_to_come_back() {
        for (retry_after, told) in [(true, Some("2")), (false, None)] {
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
            assert_eq!(header.map(|value| value.to_str().unwrap()), told);
            assert_eq!((rig.counts().accepted, rig.counts().throttled), (1, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_counts_and_what_finds_nobody_does_not() {
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
    async fn each_fate_shows_as_what_it_is() {
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
}
