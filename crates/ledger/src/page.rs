//! Figures that are kept elsewhere, gathered for one reading of `/metrics`.
//!
//! Written by the same library as the metrics themselves, so that names, labels and their escapes are right. Filled by the
//! binary.

use prometheus::core::Collector;
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};
use std::collections::HashMap;

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows.
    Counter,
}

/// Name, kind and help.
pub type Family = (&'static str, Kind, &'static str);

#[derive(Debug)]
enum Samples {
    Gauge(GaugeVec),
    Counter(CounterVec),
}

/// See the module. All samples of a family have the same labels in the same order.
#[derive(Debug, Default)]
pub struct Page {
    registry: Registry,
    families: HashMap<&'static str, Samples>,
    error: Option<prometheus::Error>,
}

impl Page {
    /// One figure. A defect of names or labels is told by [`Page::text`].
    pub fn add(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        if let Err(error) = self.try_add(family, labels, value) {
            self.error.get_or_insert(error);
        }
    }

    fn try_add(
        &mut self,
        (name, kind, help): Family,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), prometheus::Error> {
        if !self.families.contains_key(name) {
            let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
            let opts = Opts::new(name, help);
            let samples = match kind {
                Kind::Gauge => Samples::Gauge(self.registered(GaugeVec::new(opts, &names)?)?),
                Kind::Counter => Samples::Counter(self.registered(CounterVec::new(opts, &names)?)?),
            };
            self.families.insert(name, samples);
        }
        let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
        match self.families.get(name) {
            Some(Samples::Gauge(gauges)) => gauges.get_metric_with_label_values(&values)?.set(value),
            Some(Samples::Counter(counters)) => counters.get_metric_with_label_values(&values)?.inc_by(value),
            None => {}
        }
        Ok(())
    }

    fn registered<C: Collector + Clone + 'static>(&self, made: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(made.clone()))?;
        Ok(made)
    }

    /// All of it in the Prometheus text form.
    ///
    /// # Errors
    /// The first defect of names or labels.
    pub fn text(self) -> Result<String, prometheus::Error> {
        match self.error {
            Some(error) => Err(error),
            None => TextEncoder::new().encode_to_string(&self.registry.gather()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_stands_together_and_its_labels_are_escaped() {
        let mut page = Page::default();
        page.add(("a", Kind::Gauge, "A."), &[("x", "1\"\n")], 1.0);
        page.add(("b", Kind::Counter, "B."), &[], 2.5);
        page.add(("a", Kind::Gauge, "A."), &[("x", "2")], 3.0);
        let expected = "# HELP a A.\n# TYPE a gauge\na{x=\"1\\\"\\n\"} 1\na{x=\"2\"} 3\n# HELP b B.\n# TYPE b counter\nb 2.5\n";
        assert_eq!(page.text().unwrap(), expected);
        let mut page = Page::default();
        page.add(("a", Kind::Gauge, "A."), &[("x", "1")], 1.0);
        page.add(("a", Kind::Gauge, "A."), &[], 1.0);
        assert!(page.text().is_err(), "other labels");
    }
}
