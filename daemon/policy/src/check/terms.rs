//! Zones, addresses and services as rules name them: do they exist, and can they meet?

use super::Whole;
use super::ranges::Family;
use super::report::Spot;
use super::services::{Traffic, predefined, service};
use crate::model::{AddressTerm, ServiceTerm, ZoneTerm};
use crate::name::Name;
use crate::problem::nearest;

/// Whether `box` may stand in a list of zones.
#[derive(Clone, Copy, PartialEq)]
pub enum TheBox {
    Allowed,
    /// With the reason, as the end of a sentence.
    Refused(&'static str),
}

impl Whole<'_> {
    pub fn zone_terms(&self, spot: &mut Spot, field: &'static str, terms: &[ZoneTerm], the_box: TheBox) {
        for (at, term) in terms.iter().enumerate() {
            match (term, the_box) {
                (ZoneTerm::Zone(name), _) => self.zone(&mut spot.index(field, at), name),
                (ZoneTerm::Box, TheBox::Refused(reason)) => spot.index(field, at).say(format!("`box` cannot stand here: {reason}")),
                _ => (),
            }
        }
    }

    pub fn zone(&self, spot: &mut Spot, name: &Name) {
        if !self.config.zones.contains_key(name) && !self.config.gaps.may_hide("Zone", name.as_str()) {
            let known = self.config.zones.keys().map(Name::as_str);
            spot.say(format!("there is no Zone {name}; add one with this name or name another{}", nearest(name.as_str(), known)));
        }
    }

    pub fn address_terms(&self, spot: &mut Spot, field: &'static str, terms: &[AddressTerm]) {
        for (at, term) in terms.iter().enumerate() {
            if let AddressTerm::Set(name) = term {
                self.address_set(&mut spot.index(field, at), name);
            }
        }
    }

    pub fn address_set(&self, spot: &mut Spot, name: &Name) {
        if self.config.address_sets.contains_key(name) || self.config.gaps.may_hide("AddressSet", name.as_str()) {
            return;
        }
        if matches!(name.as_str(), "any" | "all") {
            spot.say(format!("`{name}` is no address; leave the field out to mean every address"));
            return;
        }
        let known = self.config.address_sets.keys().map(Name::as_str);
        spot.say(format!("there is no AddressSet {name}; add one with this name, or write an address{}", nearest(name.as_str(), known)));
    }

    pub fn service_terms(&self, spot: &mut Spot, field: &'static str, terms: &[ServiceTerm]) {
        for (at, term) in terms.iter().enumerate() {
            let ServiceTerm::Named(name) = term else { continue };
            if service(self.config, name.as_str()).is_some() || self.config.gaps.may_hide("Service", name.as_str()) {
                continue;
            }
            if matches!(name.as_str(), "any" | "all") {
                spot.index(field, at).say(format!("`{name}` is no service; leave the field out to mean every service"));
                continue;
            }
            let known = self.config.services.keys().map(Name::as_str).chain(predefined().keys().copied());
            let remedy = "add a Service with this name, or write it as tcp/443 or udp/53";
            spot.index(field, at).say(format!("there is no service {name}; {remedy}{}", nearest(name.as_str(), known)));
        }
    }

    /// A packet has one family; sources, destinations and services must leave it one. Sets that could not be read, or that are
    /// empty on purpose, leave the question open.
    pub fn families_meet(&self, spot: &mut Spot, sources: &[AddressTerm], destinations: &[AddressTerm], services: &[ServiceTerm]) {
        let traffic = Traffic::of(self.config, services);
        let of_terms = |terms: &[AddressTerm]| Family::BOTH.map(|family| self.addresses.has_any(terms, family));
        let parts = [
            ("sources", of_terms(sources)),
            ("destinations", of_terms(destinations)),
            ("services", Family::BOTH.map(|family| traffic.as_ref().is_none_or(|traffic| traffic.has_any(family)))),
        ];
        let gaps = &self.config.gaps;
        if gaps.may_hide_any("AddressSet") || gaps.may_hide_any("Service") || parts.iter().any(|(_, families)| *families == [false, false])
        {
            return;
        }
        let only = |family: Family| {
            parts.iter().find(|(_, families)| families[family as usize] && !families[1 - family as usize]).map(|(name, _)| *name)
        };
        if let (Some(four), Some(six)) = (only(Family::V4), only(Family::V6)) {
            spot.field(six).say(format!(
                "this can never match: {four} hold only IPv4 and {six} hold only IPv6; write two rules, or addresses of one family"
            ));
        }
    }
}
