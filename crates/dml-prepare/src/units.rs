/// A number of bytes as people read it: `6.96 GB`. Decimal units, as publishers state them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_readable() {
        let check = |count, expected: &str| assert_eq!(super::bytes(count), expected);
        check(0, "0 B");
        check(999, "999 B");
        check(1000, "1.00 kB");
        check(6_960_400_115, "6.96 GB");
        check(u64::MAX, "18446744.07 TB");
    }
}
