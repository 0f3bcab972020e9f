//! The log lines about learned quotas.

use super::family::Family;
use super::learning::LearningEvent;
use super::queue::TenantEvent;
use crate::region::Region;
use crate::token::SkillId;

/// Logs what is learned of a skill's quota. The second message offers a line for the
/// configuration file.
pub(super) fn announce(region: Region, family: Family, event: &TenantEvent) {
    let (region, family) = (region.name(), family.name());
    let skill = event.tenant.as_ref().map(SkillId::as_str);
    match event.event {
        LearningEvent::Capped { rate } => tracing::warn!(
            region,
            family,
            skill,
            limit_per_second = rate,
            "Alexa answered 429; learning its quota for this skill"
        ),
        LearningEvent::Confirmed { rate } => tracing::info!(
            region,
            family,
            skill,
            limit_per_second = rate,
            line = %config_line(skill, rate),
            "Alexa's quota for this skill is confirmed; you can set it in [limits.{family}]"
        ),
    }
}

/// A rate as a line for the family's section of a configuration file. It counts whole
/// requests in ten seconds or ten minutes, because whole requests in one second would
/// lose too much by rounding.
fn config_line(skill: Option<&str>, rate: f64) -> String {
    let (seconds, per) = if rate >= 1.0 {
        (10.0, "10s")
    } else {
        (600.0, "10m")
    };
    let key = match skill {
        Some(skill) => format!("skills.\"{skill}\".quota"),
        None => "skill".to_owned(),
    };
    let requests = (rate * seconds).floor();
    format!("{key} = {{ requests = {requests}, per = \"{per}\" }}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::layers::Sources;

    #[test]
    fn the_offered_line_is_valid_configuration() {
        let read = |skill, rate| {
            let text = format!("[limits.profile]\n{}", config_line(skill, rate));
            let sources = Sources {
                file: Some(("g.toml", &text)),
                environment: &[],
            };
            let limits = Config::load(&sources).unwrap().gateway.limits.profile;
            let own = limits
                .skills
                .first_key_value()
                .and_then(|(_, own)| own.quota);
            own.or(limits.skill).unwrap().to_string()
        };
        let skill = Some("amzn1.ask.skill.a");
        assert_eq!(read(skill, 19.57), "195/10s");
        assert_eq!(read(None, 1.0), "10/10s");
        assert_eq!(read(skill, 1.0 / 60.0), "10/10m");
    }
}
