//! `[routing]`, `[regions]` and `[cache.templates]`: the route table.

use std::sync::Arc;

use crate::cache::policy::Freshness;
use crate::config::check::Check;
use crate::config::file::{Cache, ConfigFile, Template};
use crate::region::Region;
use crate::route::path::PathTemplate;
use crate::route::{RouteTable, Rule, UpstreamUrl};

pub(super) fn table(check: &mut Check, file: &ConfigFile) -> RouteTable {
    let upstreams = Region::ALL.map(|region| {
        let text = &file.regions.get(region).upstream;
        UpstreamUrl::parse(text).unwrap_or_else(|message| {
            check.problem(&format!("regions.{region}.upstream"), message);
            UpstreamUrl::of_host(region.host())
        })
    });
    RouteTable::new(
        upstreams,
        aliases(check, file),
        file.routing.default_region,
        rules(check, &file.cache),
    )
}

fn aliases(check: &mut Check, file: &ConfigFile) -> Vec<(String, Region)> {
    let mut aliases: Vec<(String, Region)> = Vec::new();
    for region in Region::ALL {
        for (n, alias) in file.regions.get(region).aliases.iter().enumerate() {
            let path = format!("regions.{region}.aliases[{n}]");
            check.ensure(
                is_host_name(alias),
                &path,
                "must be a host name without scheme or port",
            );
            let hosts = Region::ALL.into_iter().map(|other| (other.host(), other));
            let named = aliases.iter().map(|(name, other)| (name.as_str(), *other));
            let is_taken = hosts
                .chain(named)
                .any(|(name, other)| other != region && name.eq_ignore_ascii_case(alias));
            check.ensure(!is_taken, &path, "this host names another region already");
            aliases.push((alias.clone(), region));
        }
    }
    aliases
}

fn is_host_name(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
    !text.is_empty() && text.bytes().all(is_allowed)
}

fn rules(check: &mut Check, cache: &Cache) -> Vec<Arc<Rule>> {
    let default = default_freshness(check, cache);
    let mut rules = Vec::new();
    for (name, template) in &cache.templates {
        let freshness = freshness(check, name, template, default);
        match PathTemplate::parse(&template.path) {
            Ok(path) if template.enabled => rules.push(Arc::new(Rule {
                name: name.clone(),
                template: path,
                freshness,
            })),
            Ok(_) => {}
            Err(message) => check.problem(&format!("cache.templates.{name}.path"), message),
        }
    }
    rules
}

fn default_freshness(check: &mut Check, cache: &Cache) -> Freshness {
    Freshness {
        ttl: check.duration("cache.ttl", cache.ttl),
        no_content_ttl: check.duration("cache.no_content_ttl", cache.no_content_ttl),
        expiry_margin: check.duration("cache.expiry_margin", cache.expiry_margin),
        respect_no_store: cache.respect_no_store,
        stale_while_revalidate: check
            .duration("cache.stale_while_revalidate", cache.stale_while_revalidate),
        stale_if_error: check.duration("cache.stale_if_error", cache.stale_if_error),
    }
}

/// The template's own values, and the defaults for the rest.
fn freshness(check: &mut Check, name: &str, template: &Template, default: Freshness) -> Freshness {
    let mut own = |key: &str, value, default| match value {
        Some(value) => check.duration(&format!("cache.templates.{name}.{key}"), value),
        None => default,
    };
    Freshness {
        ttl: own("ttl", template.ttl, default.ttl),
        stale_while_revalidate: own(
            "stale_while_revalidate",
            template.stale_while_revalidate,
            default.stale_while_revalidate,
        ),
        stale_if_error: own(
            "stale_if_error",
            template.stale_if_error,
            default.stale_if_error,
        ),
        ..default
    }
}
