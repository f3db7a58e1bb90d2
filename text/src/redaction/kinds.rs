//! The kinds of personal data, and sets of them.

/// What a piece of personal data is. The order is that of precedence: where two overlap, the first
/// of this list stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Text that looks like a placeholder; no personal data, see the module's documentation.
    Literal,
    /// An e-mail address.
    Email,
    /// An international bank account number.
    Iban,
    /// A payment card number.
    Card,
    /// A number that a state gave to a person.
    NationalId,
    /// An IPv4 or IPv6 address.
    Ip,
    /// A date that the words around it call one of birth.
    DateOfBirth,
    /// A phone number.
    Phone,
    /// A number under which an organisation keeps a person, called so: an account, a patient, a member.
    Record,
    /// A postal address.
    Address,
    /// A person's name. Needs a model: see [`super::with_named`].
    Person,
    /// A place's name. Likewise.
    Place,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Literal,
        Self::Email,
        Self::Iban,
        Self::Card,
        Self::NationalId,
        Self::Ip,
        Self::DateOfBirth,
        Self::Phone,
        Self::Record,
        Self::Address,
        Self::Person,
        Self::Place,
    ];

    /// The name in placeholders, findings and labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Literal => "literal",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::NationalId => "national-id",
            Self::Ip => "ip",
            Self::DateOfBirth => "date-of-birth",
            Self::Phone => "phone",
            Self::Record => "record",
            Self::Address => "address",
            Self::Person => "person",
            Self::Place => "place",
        }
    }

    /// Whether it identifies a person or their money whoever wrote it. Contact details do not: a
    /// company's own stand in its documents.
    #[must_use]
    pub fn is_always_private(self) -> bool {
        matches!(self, Self::Iban | Self::Card | Self::NationalId | Self::DateOfBirth | Self::Record)
    }
}

/// A set of kinds.
///
/// A kind that is not in the set is as if it did not exist: where it would have taken precedence, the
/// other kind stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u16);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);

    /// Every kind.
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);

    /// What is personal data by its form and the words around it: all but [`Kind::Literal`].
    pub const PATTERNS: Self = Self(Self::ALL.0 & !1);

    /// Whether a kind is in the set.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0 >> kind as u16 & 1 == 1
    }

    /// The set with a kind.
    #[must_use]
    pub fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// The set without a kind.
    #[must_use]
    pub fn without(self, kind: Kind) -> Self {
        Self(self.0 & !(1 << kind as u16))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}
