# A web shop. Examples of: a limit that the base lets a tenant raise, sentences that the law wants said, and a
# shorter time to keep conversations. Wording is data (`data.voice`), checked by the service itself.
package switchboard

# --- Refunds ------------------------------------------------------------------------------------------------

refund if input.facts.tool in data.refund.tools

limit := data.refund.most_strong if input.facts.identity == "strong"

limit := data.refund.most if input.facts.identity == "verified"

given if {
	some fact, _ in input.facts
	fact == "amount"
}

amount := input.facts.amount if is_number(input.facts.amount)

amount := to_number(input.facts.amount) if {
	is_string(input.facts.amount)
	regex.match(`^[0-9]{1,12}(\.[0-9]{1,4})?$`, input.facts.amount)
}

# Takes back the base's limit of 0, and allows in its place. That the customer is known, and confirms what
# cannot be undone, stays the base's matter: it is not overridable there.
tool contains {
	"rule": "refund.small",
	"verdict": "allow",
	"reason": sprintf("a refund of up to %v needs no person", [limit]),
	"waives": "tool.amount",
} if {
	refund
	amount > 0
	amount <= limit
}

tool contains {
	"rule": "refund.no_amount",
	"verdict": "refuse",
	"reason": "a refund says how much it is",
} if {
	refund
	not given
}

# --- What has to be said ------------------------------------------------------------------------------------

# The country of "DE-BY" is "DE".
country := split(input.jurisdiction, "-")[0]

speaks_of(words) if {
	some word in words
	contains(lower(input.text), word)
}

disclosures contains {
	"rule": "warranty.statutory",
	"say": data.disclosures.warranty,
	"reason": "the draft speaks of the warranty",
} if {
	input.direction == "output"
	speaks_of(["warranty", "guarantee"])
}

disclosures contains {
	"rule": "withdrawal.period",
	"say": data.disclosures.withdrawal,
	"reason": "consumer law of the customer's country",
} if {
	input.direction == "output"
	country in data.consumer_law
	speaks_of(["return policy", "withdraw", "cancel your order"])
}

# --- How long data is kept ----------------------------------------------------------------------------------

retention contains {
	"rule": "keep.short",
	"keep_days": days,
	"reason": "conversations about orders are soon settled",
} if {
	days := data.keep_days[input.facts.data]
}
