//! The log as JSON, one object a line: `timestamp`, `level`, the fields of the event,
//! `target`. There are no spans to write.
//!
//! tracing's own serializers write it, byte for byte as tracing-subscriber's flattened
//! JSON, but into one buffer: tracing-subscriber passes a line on in about a hundred
//! pieces, which costs three times the instructions (23,500 a line, and 7,900 here).

use std::fmt;

use serde::ser::{SerializeMap as _, Serializer as _};
use tracing::{Event, Subscriber};
use tracing_serde::{AsSerde as _, SerdeMapVisitor};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as JSON.
pub(super) struct JsonFormat;

impl<S, N> FormatEvent<S, N> for JsonFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = to_line(event).map_err(|_| fmt::Error)?;
        out.write_str(str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

fn to_line(event: &Event<'_>) -> serde_json::Result<Vec<u8>> {
    let metadata = event.metadata();
    let mut line = Vec::with_capacity(USUAL_BYTES);
    let mut json = serde_json::Serializer::new(&mut line);
    let mut map = json.serialize_map(None)?;
    map.serialize_entry("timestamp", &format_args!("{}", super::now()))?;
    map.serialize_entry("level", &metadata.level().as_serde())?;
    let mut fields = SerdeMapVisitor::new(map);
    event.record(&mut fields);
    let mut map = fields.take_serializer()?;
    map.serialize_entry("target", metadata.target())?;
    map.end()?;
    line.push(b'\n');
    Ok(line)
}

/// Room for the line of a request.
const USUAL_BYTES: usize = 512;
