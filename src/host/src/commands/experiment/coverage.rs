//! Latencies of draws (thesis fig. 3.6 and 3.10).

use inas_host::report::{Corner, Mark, Series, series_svg};
use inas_host::search::{Exact, LatencyGroups, Lgs, Sampler, TablePredictor, Uniform};
use inas_profiler::profile::Profile;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::config::Coverage;
use super::page::Page;
use super::tables::Table;

pub(super) fn run(what: &Coverage, page: &mut Page) -> anyhow::Result<()> {
    let mut raw = Table::new(["profile", "sampler", "draw", "latency_ms"]);
    page.scale(
        &format!(
            "{} draws of each sampler, as many for each of {} groups; latencies predicted from the profiles named below.",
            what.draws, what.groups
        ),
        false,
    );
    for dir in &what.profiles {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let profile = Profile::read(dir)?;
        let p = TablePredictor::new(profile.space(), &profile.model(false), profile.input_px())?;
        let samplers: [(&str, &dyn Sampler); 3] = [
            ("uniform", &Uniform::new(p.space())),
            ("LGS", &Lgs::new(&p)),
            ("exact", &Exact::in_groups(&p, what.groups)),
        ];
        let (low, high) = p.reachable();
        let bins = LatencyGroups::new(low, high, what.bins);
        let mut table = Table::new(["sampler", "fastest ms", "slowest ms", "share of the reachable range", "bins met"]);
        let mut shown = Vec::new();
        for (sampler_name, sampler) in samplers {
            let mut rng = ChaCha8Rng::seed_from_u64(what.seed);
            let mut counts = vec![0_usize; what.bins];
            let (mut from, mut to) = (f64::INFINITY, 0.0_f64);
            for draw in 0..what.draws {
                let arch = sampler.draw(draw % what.groups, what.groups, &mut rng);
                let total = p.latency(&arch)?.total();
                counts[bins.of(total)] += 1;
                (from, to) = (from.min(total.ms()), to.max(total.ms()));
                raw.row([name.clone(), sampler_name.into(), draw.to_string(), format!("{:.4}", total.ms())]);
            }
            table.row([
                sampler_name.into(),
                format!("{from:.2}"),
                format!("{to:.2}"),
                format!("{:.1} %", 100.0 * (to - from) / (high.ms() - low.ms())),
                format!("{} of {}", counts.iter().filter(|n| **n > 0).count(), what.bins),
            ]);
            let width = (high.ms() - low.ms()) / what.bins as f64;
            let points = counts.iter().enumerate().map(|(i, n)| (low.ms() + (i as f64 + 0.5) * width, *n as f64));
            shown.push(Series { name: sampler_name.into(), points: points.collect(), mark: Mark::Line });
        }
        page.paragraph(&format!("`{name}`, reachable {:.2} to {:.2} ms:", low.ms(), high.ms()));
        page.table(&table);
        let svg = series_svg(("Predicted latency, ms", "Draws in a bin"), &shown, Corner::TopRight, false)?;
        page.plot(&name, "histogram of draws", svg);
    }
    page.data(raw.csv());
    Ok(())
}
