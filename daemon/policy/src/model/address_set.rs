use super::Address;
use crate::name::Name;

/// Addresses under a name. Both families may mix; overlapping entries are merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet {
    pub addresses: Vec<Address>,
    /// Other sets whose addresses belong to this one too. Never in a circle.
    pub include: Vec<Name>,
}
