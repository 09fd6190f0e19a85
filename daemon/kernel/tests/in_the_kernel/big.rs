//! What a large site would load.

use std::net::Ipv4Addr;

use kernel::Nft;
use kernel::nft::NewElement;
use policy::ruleset::*;

use crate::build::*;
use crate::space::alone;

fn address(number: u32) -> Span {
    Span::One(Datum::V4(Ipv4Addr::from(0x0a00_0000 + number)))
}

#[test]
fn ten_thousand_rules_arrive_whole() {
    alone(|| {
        let rule = |number: u32| Rule {
            source: source(&format!("big/rule-{number}")),
            ..Rule::of([
                ipv4(),
                Part::Match { field: Field::Ip4Saddr, op: Op::Eq, to: Operand::One(address(number)) },
                tcp(),
                Part::Match {
                    field: Field::Dport,
                    op: Op::Eq,
                    to: if number.is_multiple_of(50) {
                        Operand::Any(vec![Span::One(Datum::Port(22)), Span::Range(Datum::Port(80), Datum::Port(90))])
                    } else {
                        one(Datum::Port((number % 60_000) as u16 + 1))
                    },
                },
                Part::Counter,
                accept(),
            ])
        };
        let ruleset = table(vec![], vec![("checks", chain((0..10_000).map(rule).collect()))]);
        let mut nft = Nft::open().unwrap();
        for _ in 0..2 {
            nft.apply(&ruleset).unwrap();
            assert_eq!(nft.differences(&ruleset).unwrap(), []);
        }
        assert_eq!(nft.counters(&ruleset).unwrap().len(), 10_000);
    });
}

#[test]
fn a_refusal_among_ten_thousand_is_named_and_nothing_stays() {
    alone(|| {
        let jump = |number: u32| Rule::of([Part::Verdict(Verdict::Jump(if number % 2 == 1 { "nowhere" } else { "checks2" }.into()))]);
        let ruleset = table(vec![], vec![("checks", chain((0..10_000).map(jump).collect())), ("checks2", chain(vec![]))]);
        let mut nft = Nft::open().unwrap();
        let error = nft.apply(&ruleset).unwrap_err().to_string();
        assert!(error.contains("chain checks, rule 2"), "{error}");
        assert_eq!(nft.text(&["portcullis"]).unwrap(), "");
        // The socket is as good as before.
        nft.apply(&table(vec![], vec![("checks2", chain(vec![]))])).unwrap();
    });
}

#[test]
fn a_hundred_thousand_elements_arrive_whole_and_one_more_is_found() {
    alone(|| {
        let map = |interval: bool, count: u32| Set {
            maps_to: Some(Maps::Verdict),
            interval,
            elements: (0..count).map(|number| verdict(&[address(2 * number)], Verdict::Accept)).collect(),
            ..set(&[Field::Ip4Saddr], vec![])
        };
        let ruleset = table(vec![("exact", map(false, 100_000)), ("ranges", map(true, 10_000))], vec![]);
        let mut nft = Nft::open().unwrap();
        nft.apply(&ruleset).unwrap();
        assert_eq!(nft.differences(&ruleset).unwrap(), []);
        assert_eq!(nft.elements("portcullis", "exact").unwrap().len(), 100_000);
        let stranger = NewElement { key: vec![address(77)], to: Some(Target::Verdict(Verdict::Drop)), timeout: None };
        nft.add_elements("portcullis", "exact", &[stranger]).unwrap();
        let told = nft.differences(&ruleset).unwrap();
        assert_eq!((told.len(), told[0].what.as_str()), (1, "table inet portcullis, set exact, element 10.0.0.77"));
        nft.delete_elements("portcullis", "exact", &[vec![address(77)]]).unwrap();
        assert_eq!(nft.differences(&ruleset).unwrap(), []);
    });
}

#[test]
fn the_starting_points_list_alike_and_read_back_as_meant() {
    let points = policy::starting_points();
    assert!(points.len() >= 4);
    for point in points {
        let name = point.name.to_owned();
        let mut plan =
            policy::judge(&policy::Sources::single("point.yaml", point.text)).unwrap_or_else(|problems| panic!("{name}: {problems}")).plan;
        // A file cannot own a table.
        plan.ruleset.tables.iter_mut().for_each(|table| table.owned = false);
        crate::encoding::both_encoders_agree(plan.ruleset.clone());
        let told = alone(move || {
            let mut nft = Nft::open().unwrap();
            nft.apply(&plan.ruleset).unwrap();
            nft.differences(&plan.ruleset).unwrap()
        });
        assert_eq!(told, [], "{name}");
    }
}
