//! Amounts in all kinds: what is printed reads back the same, sums and differences undo each other, no text is too odd.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::resources::Custom;
use tepui_proto::{
    Attributes, Bundle, DiskKind, PoolKind, PortRange, PortSet, Resources, Role, Scalars,
    VolumeKind,
};

fn amounts() -> impl Strategy<Value = u64> {
    // Mostly small ones, so that they meet; now and then any.
    prop_oneof![8 => 0_u64..4_000, 4 => (0_u64..64).prop_map(|mib| mib << 20), 1 => any::<u64>()]
}

fn ports() -> impl Strategy<Value = PortSet> {
    prop::collection::vec((0_u16..60, 0_u16..4), 0..4).prop_map(|ranges| {
        let range = |(first, width)| PortRange { first, last: first + width };
        PortSet::from(ranges.into_iter().map(range).collect::<Vec<_>>())
    })
}

fn custom() -> impl Strategy<Value = BTreeMap<String, Custom>> {
    let milli = (1_u64..5_000).prop_map(Custom::Milli);
    let items = prop::collection::btree_set("[a-d]", 1..3).prop_map(Custom::Items);
    // A name is always of the same type, as in a cluster.
    (prop::option::of(milli), prop::option::of(items)).prop_map(|(milli, items)| {
        let named = [("gpus", milli), ("bugs", items)];
        named.into_iter().filter_map(|(name, some)| Some((name.to_owned(), some?))).collect()
    })
}

fn resources() -> impl Strategy<Value = Resources> {
    (amounts(), amounts(), amounts(), ports(), custom()).prop_map(
        |(cpu_milli, memory_bytes, disk_bytes, ports, custom)| Resources {
            cpu_milli,
            memory_bytes,
            disk_bytes,
            ports,
            custom,
        },
    )
}

fn roles() -> impl Strategy<Value = Vec<Role>> {
    let names = [&[][..], &["web"], &["web", "web/shop"], &["ads"]];
    prop::sample::select(names.to_vec())
        .prop_map(|names| names.iter().map(|name| Role::from(*name)).collect())
}

fn disk_kinds() -> impl Strategy<Value = DiskKind> {
    let whole = prop::option::of(prop::sample::select(vec!["~3.0", "~3.1", "~3.00", "sdb"]));
    let volume = prop_oneof![
        Just(None),
        "[x-z]".prop_map(|id| Some(VolumeKind { id, shared_bytes: None })),
        ("[x-z]", 1_u64..3).prop_map(|(id, size)| {
            Some(VolumeKind { id, shared_bytes: Some(size * (1 << 20) + size) })
        }),
    ];
    (whole, volume).prop_map(|(whole, volume)| DiskKind { whole: whole.map(str::to_owned), volume })
}

/// One pool that can be written: only disk is in a kind that is about disks, and copies are whole.
fn pools() -> impl Strategy<Value = (PoolKind, Resources)> {
    let disk = (disk_kinds(), 0_u64..5).prop_map(|(disk, count)| {
        let unit = disk.volume.as_ref().and_then(|volume| volume.shared_bytes);
        let disk_bytes = count * unit.unwrap_or(1 << 20);
        (disk, Resources { disk_bytes, ..Resources::default() })
    });
    let other = resources().prop_map(|resources| (DiskKind::default(), resources));
    (roles(), any::<bool>(), prop_oneof![disk, other]).prop_map(
        |(reserved_for, revocable, (disk, resources))| {
            (PoolKind { reserved_for, revocable, disk }, resources)
        },
    )
}

fn bundles() -> impl Strategy<Value = Bundle> {
    prop::collection::vec(pools(), 0..6).prop_map(|pools| {
        let mut bundle = Bundle::default();
        for (kind, resources) in pools {
            // What does not fit is left out.
            let _ = bundle.add_pool(kind, resources);
        }
        bundle
    })
}

fn scalars() -> impl Strategy<Value = Scalars> {
    let name = prop::sample::select(vec!["cpus", "mem", "disk", "gpus", "a.b-c_d"]);
    prop::collection::btree_map(name, amounts(), 0..5).prop_map(|amounts| {
        let mut scalars = Scalars::default();
        for (name, amount) in amounts {
            scalars.set(name, amount);
        }
        scalars
    })
}

fn is_sound(bundle: &Bundle) -> bool {
    bundle.pools().all(|(kind, pool)| !kind.is_plain() && !pool.is_empty())
}

/// Texts of the notation's own pieces, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "cpus",
        "mem",
        "disk",
        "ports",
        "bugs",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        ":",
        ";",
        ",",
        "-",
        "a/b",
        "a",
        "*",
        "rev",
        "mount",
        "mount=",
        "vol:",
        "shared:",
        "size=",
        "=",
        "1",
        "0.5",
        "18446744073709551615",
        ".",
        "~",
        " ",
        "é",
        "\0",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn bundles_read_back_as_they_were(bundle in bundles()) {
        prop_assert_eq!(bundle.to_string().parse(), Ok(bundle.clone()));
        let bytes = postcard::to_stdvec(&bundle).unwrap();
        prop_assert_eq!(postcard::from_bytes(&bytes), Ok(bundle));
    }

    #[test]
    fn scalars_read_back_as_they_were(scalars in scalars()) {
        prop_assert_eq!(scalars.to_string().parse(), Ok(scalars.clone()));
        let bytes = postcard::to_stdvec(&scalars).unwrap();
        prop_assert_eq!(postcard::from_bytes(&bytes), Ok(scalars));
    }

    #[test]
    fn a_sum_comes_apart_again(a in bundles(), b in bundles()) {
        let sum = a.checked_add(&b);
        prop_assert_eq!(&sum, &b.checked_add(&a), "the order does not matter");
        if let Some(sum) = sum {
            prop_assert!(is_sound(&sum) && sum.contains(&a) && sum.contains(&b));
            prop_assert_eq!(sum.checked_sub(&a), Some(b));
        }
    }

    #[test]
    fn a_difference_comes_together_again(all in bundles(), part in bundles()) {
        let left = all.saturating_sub(&part);
        prop_assert!(is_sound(&left) && all.contains(&left));
        prop_assert_eq!(all.checked_sub(&part).is_some(), all.contains(&part));
        if let Some(left) = all.checked_sub(&part) {
            prop_assert_eq!(left.checked_add(&part), Some(all.clone()));
        }
        let taken = all.checked_sub(&left).unwrap();
        prop_assert!(part.contains(&taken));
        prop_assert_eq!(left.checked_add(&taken), Some(all));
    }

    #[test]
    fn two_halves_are_all(all in bundles()) {
        let reserved = all.retained(|kind, _| kind.is_reserved());
        let rest = all.retained(|kind, _| !kind.is_reserved());
        prop_assert_eq!(reserved.checked_add(&rest), Some(all.clone()));
        let kinds: BTreeSet<&PoolKind> = all.iter().map(|(kind, _)| kind).collect();
        prop_assert_eq!(kinds.len(), all.iter().count());
        prop_assert!(all.iter().all(|(kind, pool)| all.get(kind) == pool && !pool.is_empty()));
    }

    #[test]
    fn any_text_is_read_or_refused(text in prop_oneof![".{0,60}", pieces()]) {
        if let Ok(bundle) = text.parse::<Bundle>() {
            prop_assert!(is_sound(&bundle));
            prop_assert_eq!(bundle.to_string().parse(), Ok(bundle));
        }
        if let Ok(scalars) = text.parse::<Scalars>() {
            prop_assert_eq!(scalars.to_string().parse(), Ok(scalars));
        }
        if let Ok(attributes) = text.parse::<Attributes>() {
            prop_assert_eq!(attributes.to_string().parse(), Ok(attributes));
        }
    }
}
