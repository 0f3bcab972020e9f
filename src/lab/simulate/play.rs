//! Runs a trace through a gateway on paused time.
//!
//! Everything happens on the calling thread, in a runtime of its own, so a
//! simulation may run in a plain test but not inside another runtime. A request
//! comes at its time whatever became of those before it, and its caller waits
//! until it is answered. The simulation ends when the last has been, and nothing
//! is on its way any more.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST};
use http::{HeaderValue, Request, Uri};
use http_body_util::Empty;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::book::{Book, End};
use super::report::Report;
use super::token::Tokens;
use super::trace::{Ask, Trace};
use super::upstream::{Alexa, Model};
use crate::config::Config;
use crate::gateway::{self, BuildError, Gateway};
use crate::headers::{API_ENDPOINT, TIMEOUT_MS};
use crate::limits::Family;
use crate::region::Region;
use crate::upstream::client::Client;

/// A trace and the Alexa that it meets.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Who asks what, and when.
    pub trace: Trace,
    /// What answers.
    pub alexa: Alexa,
    /// Where the random numbers of Alexa and of the gateway start.
    pub seed: u64,
}

/// A simulation cannot be run.
#[derive(Debug)]
pub enum PlayError {
    /// There is no runtime.
    Runtime(io::Error),
    /// There is no gateway.
    Gateway(BuildError),
    /// A path of the trace cannot be asked for.
    Target(String),
    /// So many requests are never answered: a defect of the gateway.
    Stuck(usize),
}

impl fmt::Display for PlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runtime(error) => write!(f, "starting the runtime: {error}"),
            Self::Gateway(error) => error.fmt(f),
            Self::Target(path) => write!(f, "the trace asks for {path:?}, which is no path"),
            Self::Stuck(requests) => write!(
                f,
                "{requests} requests have no answer {} after the last came",
                humantime::format_duration(PATIENCE)
            ),
        }
    }
}

impl std::error::Error for PlayError {}

/// How often the queue is looked at. What has expired leaves the cache at each
/// full second, as in a server.
const LOOK: Duration = Duration::from_millis(100);

/// When no answer can come any more: far beyond any deadline.
const PATIENCE: Duration = Duration::from_secs(600);

/// Fixed windows of Alexa begin up to so long before the trace does.
const PHASE_MS: u64 = 10_000;

impl Scenario {
    /// Runs the trace through a gateway of this configuration, and of the others
    /// from their moments on. `watch` is told how far it is, every 100 ms of the
    /// trace.
    ///
    /// # Errors
    /// See [`PlayError`].
    ///
    /// # Panics
    /// Panics inside another runtime.
    pub fn play(
        &self,
        config: &Config,
        reloads: &[(Duration, Config)],
        watch: impl FnMut(Duration),
    ) -> Result<Report, PlayError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(PlayError::Runtime)?;
        // The gateway draws from this thread's numbers.
        fastrand::seed(self.seed);
        runtime.block_on(self.run(config, reloads, watch))
    }

    async fn run(
        &self,
        config: &Config,
        reloads: &[(Duration, Config)],
        mut watch: impl FnMut(Duration),
    ) -> Result<Report, PlayError> {
        let mut rng = Rng::with_seed(self.seed ^ 0x5eed);
        let origin = Instant::now();
        sleep(Duration::from_millis(rng.u64(..PHASE_MS))).await;
        let book = Book::open(Report::new(self.trace.length, &self.trace.skills));
        let skills = &self.trace.skills;
        let model = Model::new(&self.alexa, skills, origin, rng.u64(..), book.clone());
        let model = Arc::new(model);
        let client = Client::modelled(Arc::new(move |request| model.call(&request)));
        let stage = Arc::new(Stage {
            gateway: Gateway::with_client(unlogged(config), client).map_err(PlayError::Gateway)?,
            requests: Requests::new(&self.trace)?,
            book,
        });
        let mut reloads: Vec<_> = reloads.iter().collect();
        reloads.sort_by_key(|(at, _)| *at);
        let mut reloads = reloads.into_iter().peekable();
        let mut asks = self.trace.asks().peekable();
        let mut callers = JoinSet::new();
        let start = stage.book.start();
        let (mut tick, mut last) = (Duration::ZERO, Duration::ZERO);
        loop {
            let ask = asks.next_if(|ask| ask.at < tick);
            let next = ask.map_or(tick, |ask| ask.at);
            while let Some((at, config)) = reloads.next_if(|(at, _)| *at <= next) {
                sleep_until(start + *at).await;
                stage.gateway.reconfigure(unlogged(config));
            }
            if start + next > Instant::now() {
                sleep_until(start + next).await;
            }
            while let Some(ended) = callers.try_join_next() {
                propagate(ended);
            }
            match ask {
                Some(ask) => {
                    callers.spawn(Arc::clone(&stage).ask(ask));
                }
                None => {
                    stage.look(tick).await;
                    watch(tick);
                    tick += LOOK;
                    if asks.peek().is_some() || reloads.peek().is_some() {
                        last = tick;
                    } else if callers.is_empty() && stage.gateway.flights().0 == 0 {
                        return Ok(stage.book.report());
                    } else if tick > last + PATIENCE {
                        return Err(PlayError::Stuck(callers.len()));
                    }
                }
            }
        }
    }
}

/// A panic of the pipeline is the simulation's.
fn propagate(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

/// Lines about requests that nobody made are of no use.
fn unlogged(config: &Config) -> gateway::Policy {
    gateway::Policy {
        log_requests: false,
        ..config.gateway.clone()
    }
}

/// What callers share.
struct Stage {
    gateway: Arc<Gateway>,
    requests: Requests,
    book: Book,
}

impl Stage {
    /// One request, from its coming to its answer.
    async fn ask(self: Arc<Self>, ask: Ask) {
        self.book.asked(ask.region, ask.skill);
        let deadline = self.gateway.policy().deadline;
        let patience = match ask.timeout_ms {
            0 => deadline.default,
            millis => Duration::from_millis(millis.into()).min(deadline.max),
        };
        let asked_at = self.book.now();
        let request = self.requests.of(&ask);
        let (response, record) = self.gateway.recorded(request, None).await;
        self.book.ended(&End {
            asked_at,
            region: ask.region,
            skill: ask.skill,
            patience,
            took: self.book.now() - asked_at,
            status: response.status().as_u16(),
            cache: record.cache,
            error: record.error,
            stats: record.stats,
        });
        record.finish(response.status());
    }

    /// Sees how long the queues are, and does what a server does now and then.
    async fn look(&self, at: Duration) {
        for region in Region::ALL {
            let limits = self.gateway.limits();
            let queued = Family::ALL.map(|family| limits.snapshot(region, family).queued);
            self.book.queued(region, queued.iter().sum());
        }
        if at.subsec_nanos() == 0 {
            self.gateway.cache().sweep().await;
        }
    }
}

/// Makes requests of a trace.
struct Requests {
    tokens: Vec<Tokens>,
    targets: Vec<(http::Method, Uri)>,
    /// By [`Region::index`].
    endpoints: [HeaderValue; 3],
}

impl Requests {
    fn new(trace: &Trace) -> Result<Self, PlayError> {
        let skills = (0..).zip(&trace.skills);
        let tokens = skills.map(|(n, id)| Tokens::new(id.as_ref(), n)).collect();
        let targets = trace.targets.iter().map(|target| {
            let uri = target.path.parse::<Uri>();
            let uri = uri.ok().filter(|uri| uri.path().starts_with('/'));
            let uri = uri.ok_or_else(|| PlayError::Target(target.path.clone()))?;
            Ok((target.method.clone(), uri))
        });
        let endpoint = |region: Region| {
            HeaderValue::try_from(format!("https://{}", region.host()))
                .unwrap_or_else(|_| HeaderValue::from_static(""))
        };
        Ok(Self {
            tokens,
            targets: targets.collect::<Result<_, _>>()?,
            endpoints: Region::ALL.map(endpoint),
        })
    }

    /// A request as a skill sends it that calls the gateway in Alexa's place.
    fn of(&self, ask: &Ask) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        let (method, uri) = &self.targets[ask.target as usize];
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:2780"));
        headers.insert(API_ENDPOINT, self.endpoints[ask.region.index()].clone());
        let token = self.tokens[ask.skill as usize].of(ask.region, ask.turn);
        headers.insert(AUTHORIZATION, token);
        if ask.timeout_ms > 0 {
            headers.insert(TIMEOUT_MS, ask.timeout_ms.into());
        }
        if ask.no_cache {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::{Load, SkillLoad, Target};
    use super::super::upstream::{Change, Outage, OutageKind, Setting};
    use super::*;
    use crate::config::layers::Sources;
    use crate::lab::window::WindowKind;
    use crate::limits::Quota;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(text: &str) -> Config {
        let sources = Sources {
            file: Some(("test", text)),
            environment: &[],
        };
        Config::load(&sources).unwrap()
    }

    fn quota(text: &str) -> Option<Quota> {
        Some(text.parse().unwrap())
    }

    /// Three skills, one in each region, 90 requests a second in all: 10
    /// different ones a second for each, in turns of three.
    fn scenario(alexa: Alexa) -> Scenario {
        let load = Load::steady(SkillLoad::equal(3, 90.0), 60 * SECOND);
        Scenario {
            trace: Trace::draw(&load, 1),
            alexa,
            seed: 1,
        }
    }

    fn play(scenario: &Scenario, config: &Config) -> Report {
        let report = scenario.play(config, &[], |_| {}).unwrap();
        adds_up(&report, scenario);
        report
    }

    /// What must be so whatever happens.
    fn adds_up(report: &Report, scenario: &Scenario) {
        let total = report.total();
        assert_eq!(total.asked, scenario.trace.asks().count() as u64);
        let ends = [
            total.served,
            total.late,
            total.relayed_429,
            total.refused_429,
            total.failed,
        ];
        assert_eq!(total.asked, ends.iter().sum::<u64>());
        assert_eq!(total.asked, report.statuses.values().sum::<u64>());
        assert_eq!(total, report.between(Duration::ZERO..Duration::MAX));
        let regions =
            Region::ALL.map(|region| report.region(region, Duration::ZERO..Duration::MAX));
        assert_eq!(
            total.asked,
            regions.iter().map(|counts| counts.asked).sum::<u64>()
        );
        if scenario.alexa.outages.is_empty() {
            assert_eq!(total.attempts, total.accepted + total.throttled);
        }
        for skill in &report.skills {
            let (asked, served) = skill.between(Duration::ZERO..Duration::MAX);
            assert_eq!((asked, served), (skill.counts.asked, skill.counts.served));
            assert_eq!(skill.latency.len(), skill.counts.served + skill.counts.late);
        }
    }

    #[test]
    fn one_seed_makes_one_report_and_another_seed_another() {
        let mut scenario = scenario(Alexa {
            skill_quota: quota("8/1s"),
            timeouts: 0.01,
            resets: 0.01,
            errors: 0.01,
            retry_after: true,
            ..Alexa::default()
        });
        let config = config("[limits.profile]\nskill = { requests = 9, per = '1s' }");
        let first = play(&scenario, &config);
        assert!(first.total().throttled > 0 && first.total().failed > 0);
        assert_eq!(play(&scenario, &config), first);
        scenario.seed = 2;
        assert_ne!(play(&scenario, &config), first);
    }

    #[test]
    fn equal_requests_share_calls_and_answers() {
        let report = play(&scenario(Alexa::default()), &config(""));
        let total = report.total();
        assert_eq!(total.served, total.asked);
        // Each turn asks each of three things three times.
        assert_eq!(total.attempts * 3, total.asked);
        assert_eq!(total.attempts, total.accepted);
        assert_eq!(total.hits + total.collapsed + total.attempts, total.asked);
        // The second of three services comes at once, the third after the answer.
        assert!((0.3..0.36).contains(&total.hit_ratio()), "{total:?}");
        assert!((0.3..0.36).contains(&total.collapsed_share()), "{total:?}");
        assert_eq!(report.fairness(Duration::ZERO..Duration::MAX), 1.0);
        assert!(report.latency(1.0) <= Duration::from_millis(81));
        assert_eq!(report.wait(1.0), Duration::ZERO);
    }

    #[test]
    fn a_kept_quota_is_never_answered_429_and_an_unknown_one_is() {
        for window in [WindowKind::Sliding, WindowKind::Fixed] {
            let scenario = scenario(Alexa {
                skill_quota: quota("20/1s"),
                window,
                timeouts: 0.01,
                ..Alexa::default()
            });
            let kept = config("[limits.profile]\nskill = { requests = 20, per = '1s' }");
            let report = play(&scenario, &kept);
            assert_eq!(report.total().throttled, 0, "{window}");
            assert!(report.wait(0.99) > Duration::ZERO && report.peak_queue() > 0);
            let unknown = play(&scenario, &config(""));
            assert!(unknown.total().throttled > 0, "{window}");
        }
    }

    #[test]
    fn what_cannot_be_served_in_time_is_refused_at_once() {
        let scenario = scenario(Alexa {
            skill_quota: quota("5/1s"),
            ..Alexa::default()
        });
        let config = config("[limits.profile]\nskill = { requests = 5, per = '1s' }");
        let report = play(&scenario, &config);
        let total = report.total();
        assert_eq!((total.throttled, total.relayed_429), (0, 0));
        assert!(total.refused_429 > total.asked / 4, "{total:?}");
        assert!(report.errors["quota"] > 0);
        // It takes about as long to wait as the deadline allows, and no longer.
        let (wait, deadline) = (report.wait(0.99), Duration::from_millis(2500));
        assert!((2 * SECOND..deadline).contains(&wait), "{wait:?}");
        assert!(report.latency(0.99) >= wait && report.latest.is_zero());
        assert!(report.refusals.value_at_quantile(0.99) <= 5);
        let goodput = report.goodput(10 * SECOND..60 * SECOND);
        assert!(goodput > 0.0 && goodput < 90.0, "{goodput}");
    }

    #[test]
    fn a_relayed_429_is_told_from_one_of_the_gateway() {
        let scenario = scenario(Alexa {
            skill_quota: quota("1/1s"),
            ..Alexa::default()
        });
        let report = play(&scenario, &config("[retry]\nmax_attempts = 1"));
        let total = report.total();
        assert!(total.throttled > 0, "{total:?}");
        assert!(total.relayed_429 >= total.throttled, "{total:?}");
    }

    #[test]
    fn a_quota_changes_in_the_middle_for_alexa_and_for_the_gateway() {
        let scenario = scenario(Alexa {
            skill_quota: quota("50/1s"),
            changes: vec![Change {
                at: 30 * SECOND,
                to: Setting::SkillQuota(quota("12/1s")),
            }],
            ..Alexa::default()
        });
        let before = config("[limits.profile]\nskill = { requests = 50, per = '1s' }");
        let after = config("[limits.profile]\nskill = { requests = 12, per = '1s' }");
        // A second earlier, for what was sent before counts on.
        let reloads = [(29 * SECOND, after)];
        let report = scenario.play(&before, &reloads, |_| {}).unwrap();
        adds_up(&report, &scenario);
        assert_eq!(report.total().throttled, 0);
        let early = report.between(Duration::ZERO..30 * SECOND);
        assert_eq!((early.refused_429, early.failed), (0, 0));
        let unaware = play(&scenario, &before);
        assert_eq!(unaware.between(Duration::ZERO..30 * SECOND).throttled, 0);
        assert!(unaware.between(30 * SECOND..60 * SECOND).throttled > 0);
    }

    #[test]
    fn an_outage_is_of_one_region_and_ends() {
        for kind in [
            OutageKind::Refused,
            OutageKind::Silent,
            OutageKind::Unavailable,
        ] {
            let scenario = scenario(Alexa {
                outages: vec![Outage {
                    region: Region::Eu,
                    from: 20 * SECOND,
                    length: 10 * SECOND,
                    kind,
                }],
                ..Alexa::default()
            });
            let report = play(&scenario, &config(""));
            let failed = |region, from: u32, to: u32| {
                report.region(region, from * SECOND..to * SECOND).failed
            };
            assert!(failed(Region::Eu, 20, 35) > 0, "{kind:?}");
            assert_eq!(failed(Region::Eu, 0, 20), 0, "{kind:?}");
            assert_eq!(failed(Region::Eu, 35, 70), 0, "{kind:?}");
            assert_eq!(failed(Region::Na, 0, 70) + failed(Region::Fe, 0, 70), 0);
            let out = report.region(Region::Eu, 21 * SECOND..29 * SECOND);
            assert_eq!(out.accepted, 0, "{kind:?}");
            assert!(out.attempts > 0);
        }
    }

    #[test]
    fn callers_that_wait_for_less_get_their_answer_by_then() {
        let mut load = Load::steady(SkillLoad::equal(3, 90.0), 30 * SECOND);
        load.timeout = Some(Duration::from_millis(300));
        let scenario = Scenario {
            trace: Trace::draw(&load, 1),
            alexa: Alexa {
                timeouts: 0.05,
                ..Alexa::default()
            },
            seed: 1,
        };
        let report = play(&scenario, &config(""));
        assert!(report.statuses[&504] > 0);
        assert!(
            report.latest <= Duration::from_millis(20),
            "{:?}",
            report.latest
        );
    }

    #[test]
    fn requests_that_are_not_cached_are_relayed() {
        let ask = |n: u32| Ask {
            at: n * SECOND,
            turn: 0,
            skill: 0,
            target: 0,
            timeout_ms: 0,
            region: Region::Fe,
            no_cache: false,
        };
        let target = Target {
            method: http::Method::POST,
            path: "/v1/directives".to_owned(),
        };
        let scenario = Scenario {
            trace: Trace::of(vec![None], vec![target], vec![ask(2), ask(0), ask(1)]),
            alexa: Alexa::default(),
            seed: 1,
        };
        let report = play(&scenario, &config(""));
        let counts = report.region(Region::Fe, Duration::ZERO..9 * SECOND);
        assert_eq!((counts.asked, counts.served, counts.attempts), (3, 3, 3));
        assert_eq!(counts.hits + counts.collapsed, 0);
    }

    #[test]
    fn a_path_that_cannot_be_asked_for_is_an_error() {
        let trace = Trace::of(vec![None], vec![Target::get("no path")], vec![]);
        let scenario = Scenario {
            trace,
            alexa: Alexa::default(),
            seed: 1,
        };
        let error = scenario.play(&config(""), &[], |_| {}).unwrap_err();
        assert!(error.to_string().contains("no path"), "{error}");
    }
}
