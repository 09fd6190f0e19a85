//! What is carried now: the plan's part for mapped clients with its secrets, in the form that a new connection asks for.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use policy::name::Name;
use policy::plan::proxy::{Mapping, Proxy, Upstream, Via};

pub struct Carried {
    pub generation: u64,
    pub proxy: Proxy,
    pub secrets: BTreeMap<String, String>,
    /// The box's own addresses.
    pub own: Vec<IpAddr>,
    by_id: HashMap<u16, Arc<Mapped>>,
    routes: BTreeMap<Name, Arc<Route>>,
}

/// A mapping, with its clients in a form that is quick to ask.
pub struct Mapped {
    pub name: Name,
    pub mapping: Mapping,
    clients: Ranges,
}

/// An upstream and what it must be told. A flow keeps the one by which it began.
pub struct Route {
    pub name: Name,
    pub upstream: Upstream,
    password: Option<String>,
}

impl Carried {
    pub fn new(generation: u64, proxy: Proxy, secrets: BTreeMap<String, String>, own: Vec<IpAddr>) -> Carried {
        let mapped = |(name, mapping): (&Name, &Mapping)| Arc::new(Mapped::new(name.clone(), mapping.clone()));
        let route = |(name, upstream): (&Name, &Upstream)| {
            let password = upstream.password.as_ref().and_then(|secret| secrets.get(secret)).cloned();
            (name.clone(), Arc::new(Route { name: name.clone(), upstream: upstream.clone(), password }))
        };
        let by_id = proxy.mappings.iter().map(mapped).map(|mapped| (mapped.mapping.id, mapped)).collect();
        let routes = proxy.upstreams.iter().map(route).collect();
        Carried { generation, by_id, routes, proxy, secrets, own }
    }

    /// Whose packets bear this id, if the client may be one of them. A hardware address cannot be seen in a connection: for a
    /// mapping that has some, the mark alone decides.
    pub fn mapping(&self, id: u16, client: IpAddr) -> Option<&Arc<Mapped>> {
        self.by_id.get(&id).filter(|mapped| mapped.may_have(client))
    }

    pub fn route(&self, upstream: &Name) -> Option<&Arc<Route>> {
        self.routes.get(upstream)
    }

    pub fn members<'a>(&'a self, via: &'a Via) -> &'a [Name] {
        match via {
            Via::Upstream(name) => std::slice::from_ref(name),
            Via::Group(name) => self.proxy.groups.get(name).map_or(&[], |group| &group.members),
        }
    }

    /// Whether a flow that began by `mapped` and `route` would begin the same way now.
    pub fn still(&self, mapped: &Mapped, route: &Route, client: IpAddr) -> bool {
        let Some(mapping) = self.proxy.mappings.get(&mapped.name) else { return false };
        mapping.tcp == mapped.mapping.tcp
            && mapping.udp == mapped.mapping.udp
            && mapping.dns == mapped.mapping.dns
            && self.by_id.get(&mapping.id).is_some_and(|mapped| mapped.may_have(client))
            && self.members(&mapping.via).contains(&route.name)
            && self.routes.get(&route.name).is_some_and(|now| now.carries_like(route))
    }
}

impl Mapped {
    pub fn new(name: Name, mapping: Mapping) -> Mapped {
        Mapped { clients: Ranges::of(&mapping), name, mapping }
    }

    fn may_have(&self, client: IpAddr) -> bool {
        !self.mapping.macs.is_empty() || self.clients.contain(client)
    }
}

impl Route {
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// How it is probed, and what exit is expected, are no reason to end what it carries.
    fn carries_like(&self, other: &Route) -> bool {
        let Upstream { kind, address, port, username, server_name, authority, .. } = &self.upstream;
        let its = &other.upstream;
        self.password == other.password
            && (kind, address, port) == (&its.kind, &its.address, &its.port)
            && (username, server_name, authority) == (&its.username, &its.server_name, &its.authority)
    }
}

/// First and last address of each prefix, sorted; prefixes never overlap.
struct Ranges(Vec<(IpAddr, IpAddr)>);

impl Ranges {
    fn of(mapping: &Mapping) -> Ranges {
        let ends = |net: &IpNet| (net.network(), net.broadcast());
        let mut ranges: Vec<_> = mapping.clients.iter().map(ends).collect();
        ranges.sort_unstable();
        Ranges(ranges)
    }

    fn contain(&self, address: IpAddr) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|(_, last)| address <= *last)
    }
}

#[cfg(test)]
pub mod samples {
    use super::*;
    use policy::plan::proxy::{Dns, Quota, TcpCapture, UpstreamKind};

    pub fn name(text: &str) -> Name {
        Name::try_from(text).unwrap()
    }

    pub fn upstream(port: u16) -> Upstream {
        Upstream {
            kind: UpstreamKind::Socks5,
            address: "192.0.2.1".parse().unwrap(),
            port,
            username: None,
            password: None,
            server_name: None,
            authority: None,
            udp: false,
            probe: "http://192.0.2.9/ip".into(),
            expect_exit: vec![],
        }
    }

    pub fn mapping(id: u16, clients: &[&str], via: Via) -> Mapping {
        Mapping {
            id,
            enabled: true,
            clients: clients.iter().map(|text| text.parse().unwrap()).collect(),
            macs: [].into(),
            interfaces: [].into(),
            via,
            tcp: TcpCapture::Redirect,
            udp: false,
            dns: Dns::Drop,
            quota: Quota::default(),
            schedule: None,
        }
    }

    pub fn carried(change: impl FnOnce(&mut Proxy, &mut BTreeMap<String, String>)) -> Carried {
        let mut proxy = Proxy {
            upstreams: [(name("one"), upstream(1080)), (name("two"), upstream(1081))].into(),
            groups: [].into(),
            mappings: [(name("desk"), mapping(7, &["10.0.0.0/24", "10.0.2.7/32", "fd00::/64"], Via::Upstream(name("one"))))].into(),
        };
        let mut secrets = BTreeMap::new();
        change(&mut proxy, &mut secrets);
        Carried::new(1, proxy, secrets, vec![])
    }
}

#[cfg(test)]
mod tests {
    use super::samples::*;
    use super::*;

    #[test]
    fn a_client_is_the_mappings_only_if_mark_and_address_agree() {
        let carried = carried(|_, _| {});
        let is = |id, client: &str| carried.mapping(id, client.parse().unwrap()).is_some();
        assert!(is(7, "10.0.0.0") && is(7, "10.0.0.255") && is(7, "10.0.2.7") && is(7, "fd00::1"));
        assert!(!is(7, "10.0.1.0") && !is(7, "10.0.2.6") && !is(7, "10.0.2.8") && !is(7, "fd00:0:0:1::") && !is(7, "9.255.255.255"));
        assert!(!is(8, "10.0.0.1") && !is(0, "10.0.0.1"));
    }

    #[test]
    fn by_hardware_address_the_mark_alone_decides() {
        let carried = carried(|proxy, _| _ = proxy.mappings.get_mut(&name("desk")).unwrap().macs.insert("02:00:00:00:00:01".into()));
        assert!(carried.mapping(7, "203.0.113.9".parse().unwrap()).is_some());
    }

    #[test]
    fn a_flow_goes_on_while_nothing_that_carries_it_changes() {
        let before = carried(|_, _| {});
        let client = "10.0.0.5".parse().unwrap();
        let mapped = before.mapping(7, client).unwrap();
        let route = before.route(&name("one")).unwrap();
        let goes_on = |change: fn(&mut Proxy, &mut BTreeMap<String, String>)| carried(change).still(mapped, route, client);

        assert!(goes_on(|_, _| {}));
        assert!(goes_on(|proxy, _| proxy.mappings.get_mut(&name("desk")).unwrap().quota.daily = Some(1)));
        assert!(goes_on(|proxy, _| proxy.upstreams.get_mut(&name("one")).unwrap().probe = "http://192.0.2.8/".into()));
        assert!(goes_on(|proxy, _| proxy.mappings.get_mut(&name("desk")).unwrap().id = 9));

        assert!(!goes_on(|proxy, _| _ = proxy.mappings.remove(&name("desk"))));
        assert!(!goes_on(|proxy, _| proxy.mappings.get_mut(&name("desk")).unwrap().via = Via::Upstream(name("two"))));
        assert!(!goes_on(|proxy, _| proxy.mappings.get_mut(&name("desk")).unwrap().clients = ["10.0.2.0/24".parse().unwrap()].into()));
        assert!(!goes_on(|proxy, _| proxy.upstreams.get_mut(&name("one")).unwrap().port = 1082));
        assert!(!goes_on(|proxy, secrets| {
            proxy.upstreams.get_mut(&name("one")).unwrap().password = Some("key".into());
            secrets.insert("key".into(), "new".into());
        }));
    }
}
