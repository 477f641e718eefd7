//! Medians and spreads.

/// How values are spread.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub min: f64,
    /// A quarter of the values is below.
    pub low: f64,
    pub median: f64,
    /// A quarter of the values is above.
    pub high: f64,
    pub max: f64,
}

impl Spread {
    /// Of these values; `None` if there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            low: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            high: quantile(&sorted, 0.75),
            max: *sorted.last()?,
        })
    }
}

/// Between two values in proportion, of at least one value in order.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "there are as many values as rounds"
)]
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { min: 1.0, low: 1.75, median: 2.5, high: 3.25, max: 4.0 });
    }

    #[test]
    fn one_value_has_no_spread_and_none_has_no_median() {
        let spread = Spread::of(&[7.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (7.0, 7.0, 7.0));
        assert_eq!(Spread::of(&[]), None);
    }
}
