//! Numbers and durations for people.

use std::time::Duration;

/// Writes a number with a comma between thousands.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a duration in milliseconds or seconds; a dash if it is zero.
pub(super) fn time(time: Duration) -> String {
    match time.as_millis() {
        0 if time.is_zero() => "-".to_owned(),
        0 => "under 1 ms".to_owned(),
        millis if millis < 1000 => format!("{millis} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!(
            [0, 999, 1_000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        let micros = [0, 900, 61_400, 1_236_000].map(Duration::from_micros);
        assert_eq!(micros.map(time), ["-", "under 1 ms", "61 ms", "1.24 s"]);
    }
}
