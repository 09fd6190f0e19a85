use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;

use super::Talk;
use crate::Error;

/// What we put into the kernel's tables carries this as its protocol (`ip route show proto 112`), so that we find it again and
/// never take away what a DHCP client, the kernel or a person put there. Free in /etc/iproute2/rt_protos.
pub const OURS: u8 = 0x70;

/// rtnetlink: links, addresses, routes and rules.
pub struct RouteTalk(Talk);

impl RouteTalk {
    pub fn open() -> Result<RouteTalk, Error> {
        Talk::open(libc::NETLINK_ROUTE).map(RouteTalk)
    }

    /// Everything that a GET request answers with.
    pub fn dump(&mut self, what: &str, request: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let (seq, bytes) = self.encode(request, libc::NLM_F_REQUEST | libc::NLM_F_DUMP);
        let mut all = Vec::new();
        let outcome = self.0.dump(&bytes, seq, |kind, body| {
            let mut header = NetlinkHeader::default();
            header.message_type = kind;
            match RouteNetlinkMessage::deserialize(&header, body) {
                Ok(message) => all.push(message),
                Err(error) => tracing::warn!(what, %error, "the kernel tells of something that this version cannot read"),
            }
        });
        outcome.map_err(Error::io(format!("read {what}")))?;
        Ok(all)
    }

    /// Changes one thing; `flags` besides NLM_F_REQUEST and NLM_F_ACK.
    pub fn change(&mut self, what: &str, request: RouteNetlinkMessage, flags: i32) -> Result<(), Error> {
        let (seq, bytes) = self.encode(request, libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags);
        let (_, fault) = self.0.ask(&bytes, seq).map_err(Error::io(format!("change {what}")))?;
        if fault.errno == 0 { Ok(()) } else { Err(fault.refused(what)) }
    }

    fn encode(&mut self, request: RouteNetlinkMessage, flags: i32) -> (u32, Vec<u8>) {
        let seq = self.0.sequence(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags as u16;
        header.sequence_number = seq;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        (seq, bytes)
    }
}
