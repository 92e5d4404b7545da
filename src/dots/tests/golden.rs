//! Networks against the published code's values, and the counts of the specification.

use std::path::Path;

use inas_dots::net::{Cost, Form, Layout, Network, Size, Supernet};
use inas_dots::{EDGES, Genotype, OPS, parity};

#[test]
fn equals_the_reference() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/dots");
    let checks = parity::compare(&dir).unwrap();
    for check in &checks {
        println!("{:<50} {:>5} {:.2e} {:.0e}", check.name, check.tensors, check.max_difference, check.tolerance);
    }
    assert_eq!(checks.len(), 17);
    let failed: Vec<_> = checks.iter().filter(|c| !c.passed()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn size(form: Form, channels: usize, cells: usize, classes: usize) -> Size {
    Size { form, channels, cells, classes }
}

/// Spec sections 4.1 and 4.2.
#[test]
fn supernets_have_the_published_size() {
    let of = |size: Size, layout: Layout, px: usize| {
        let all = vec![OPS.to_vec(); EDGES];
        let net = Supernet::new(size, [all.clone(), all], layout, 0).unwrap();
        let cost = net.cost(px).unwrap();
        assert_eq!(net.params.count(), cost.params);
        cost
    };
    let cost = of(size(Form::Cifar, 16, 8, 10), Layout::default(), 32);
    assert_eq!(cost.params, 1_931_130);
    assert!((cost.macs as f64 - 300.3e6).abs() < 0.05e6, "{}", cost.macs);
    let cost = of(size(Form::Cifar, 16, 20, 10), Layout::default(), 32);
    assert_eq!(cost.params, 4_549_242);
    assert!((cost.macs as f64 - 753.4e6).abs() < 0.05e6, "{}", cost.macs);
    assert_eq!(of(size(Form::Cifar, 16, 8, 100), Layout::default(), 32).params, 1_954_260);
    assert_eq!(of(size(Form::Cifar, 16, 20, 100), Layout::default(), 32).params, 4_572_372);
    assert_eq!(of(size(Form::ImageNet, 16, 14, 1000), Layout::default(), 224).params, 3_525_216);
    let partial = Layout { parts: 4, last_act: false, ..Layout::default() };
    assert_eq!(of(size(Form::Cifar, 16, 8, 10), partial, 32).params, 299_578);
}

/// Spec section 4.4.
#[test]
fn derived_networks_have_the_published_size() {
    let cost = |name: &str, size: Size, px: usize| -> Cost {
        Network::cost_of(size, &Genotype::published(name).unwrap(), px).unwrap()
    };
    let cifar = |classes| size(Form::Cifar, 36, 20, classes);
    let imagenet = |channels| size(Form::ImageNet, channels, 14, 1000);
    let close = |macs: u64, millions: f64, digits: f64| {
        assert!((macs as f64 / 1e6 - millions).abs() <= 0.5 * digits, "{macs} {millions}");
    };
    for (name, ten, hundred, macs) in [
        ("dots-c10", 3_526_030, Some(3_577_960), Some(546.66)),
        ("dots-c100", 4_009_438, Some(4_061_368), Some(614.34)),
        ("dots-imagenet", 3_750_454, Some(3_802_384), None),
        ("darts-v1", 3_169_414, None, None),
        ("darts-v2", 3_349_342, None, None),
        ("pc-darts-c10", 3_634_678, None, None),
    ] {
        let of_ten = cost(name, cifar(10), 32);
        assert_eq!(of_ten.params, ten, "{name}");
        if let Some(hundred) = hundred {
            assert_eq!(cost(name, cifar(100), 32).params, hundred, "{name}");
        }
        if let Some(macs) = macs {
            close(of_ten.macs, macs, 0.01);
        }
    }
    for (name, channels, params, macs) in [
        ("dots-c10", 46, 4_652_221, Some((510.3, 0.1))),
        ("dots-c10", 48, 5_023_456, Some((554.0, 0.1))),
        ("dots-imagenet", 46, 4_954_073, Some((541.5, 0.1))),
        ("dots-imagenet", 48, 5_348_032, Some((587.35, 0.01))),
        ("darts-v2", 46, 4_371_253, None),
        ("darts-v2", 48, 4_718_752, Some((529.9, 0.1))),
    ] {
        let of = cost(name, imagenet(channels), 224);
        assert_eq!(of.params, params, "{name} {channels}");
        if let Some((macs, digits)) = macs {
            close(of.macs, macs, digits);
        }
    }
}

#[test]
fn auxiliary_heads_have_the_published_size() {
    for (size, params) in [(size(Form::Cifar, 36, 20, 10), 476_426), (size(Form::ImageNet, 48, 14, 1000), 1_260_776)] {
        let genotype = Genotype::published("dots-imagenet").unwrap();
        let count = |aux| Network::new(size, genotype.clone(), aux, 0).unwrap().params.count();
        assert_eq!(count(true) - count(false), params);
    }
}
