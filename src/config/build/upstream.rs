//! `[upstream]`, `[retry]`, `[breaker]` and `[passthrough]`: calls to Alexa.

use std::time::Duration;

use crate::config::check::Check;
use crate::config::file::{ConfigFile, Retry};
use crate::upstream::{self, FetchPolicy, RelayPolicy, breaker, budget, client, retry};

/// The breaker's window moves in ten steps, each longer than the clock's precision.
const MIN_WINDOW: Duration = Duration::from_millis(100);

pub(super) fn upstream(check: &mut Check, file: &ConfigFile) -> upstream::Policy {
    let upstream = &file.upstream;
    upstream::Policy {
        client: client::Policy {
            connect_timeout: check.timeout("upstream.connect_timeout", upstream.connect_timeout),
            pool_idle_timeout: check
                .timeout("upstream.pool_idle_timeout", upstream.pool_idle_timeout),
            pool_max_idle_per_host: upstream.pool_max_idle_per_host,
            tls: upstream.tls.clone(),
        },
        fetch: FetchPolicy {
            answer_timeout: check.timeout("upstream.answer_timeout", upstream.answer_timeout),
            max_answer_bytes: upstream.max_answer_bytes,
        },
        relay: relay(check, file.passthrough),
        retry: retries(check, file.retry),
        budget: budget(check, file.retry),
        breaker: breaker(check, file.breaker),
    }
}

fn relay(check: &mut Check, relay: RelayPolicy) -> RelayPolicy {
    check.timeout("passthrough.answer_timeout", relay.answer_timeout);
    check.timeout("passthrough.body_idle_timeout", relay.body_idle_timeout);
    relay
}

fn retries(check: &mut Check, retry: Retry) -> retry::Policy {
    let (base, max) = (retry.base_backoff, retry.max_backoff);
    check.at_most("retry.max_attempts", retry.max_attempts.get(), 10);
    check.ensure(
        base <= max,
        "retry.base_backoff",
        "must be at most retry.max_backoff",
    );
    retry::Policy {
        max_attempts: retry.max_attempts,
        base_backoff: check.timeout("retry.base_backoff", base),
        max_backoff: check.duration("retry.max_backoff", max),
    }
}

fn budget(check: &mut Check, retry: Retry) -> budget::Policy {
    let (percent, per_second) = (retry.budget_percent, retry.budget_min_per_second);
    budget::Policy {
        percent: check.at_most("retry.budget_percent", percent, 100),
        min_per_second: check.at_most("retry.budget_min_per_second", per_second, 10_000),
    }
}

fn breaker(check: &mut Check, breaker: breaker::Policy) -> breaker::Policy {
    let percent = breaker.min_success_percent;
    check.at_most("breaker.min_success_percent", percent, 100);
    check.duration("breaker.window", breaker.window);
    check.ensure(
        breaker.window >= MIN_WINDOW,
        "breaker.window",
        "must be at least 100ms",
    );
    check.timeout("breaker.open", breaker.open);
    check.duration("breaker.max_open", breaker.max_open);
    check.ensure(
        breaker.open <= breaker.max_open,
        "breaker.open",
        "must be at most breaker.max_open",
    );
    breaker
}
