# What holds for every tenant.
#
# Each entry point is a set of decisions. A rule adds one with `contains`; where rules disagree the strictest
# verdict holds: allow < disclose < rewrite < ask < refuse < hand_off. A tenant's own bundle adds decisions in
# the same way. It can make things stricter, never milder, but for decisions that are `overridable` here, which
# it takes back with a decision that `waives` them by name.
package switchboard

# --- Texts: `input.direction` is "input" (to us) or "output" (a draft of ours) ---------------------------

# Findings that their detector is sure enough of, by the groups of data.json.
found contains group if {
	some finding in input.findings
	finding.score >= data.sure
	some group, kinds in data.kinds
	finding.kind in kinds
}

customer if {
	input.direction == "input"
	input.source == "customer"
}

inspect contains {
	"rule": "risk.danger",
	"verdict": "hand_off",
	"reason": "somebody may be in danger",
} if {
	customer
	"danger" in found
}

inspect contains {
	"rule": "risk.dispute",
	"verdict": "hand_off",
	"reason": "the customer speaks of a dispute, a regulator or fraud",
	"overridable": true,
} if {
	customer
	"dispute" in found
}

inspect contains {
	"rule": "person.asked",
	"verdict": "hand_off",
	"reason": "the customer asks for a person",
	"overridable": true,
} if {
	customer
	"person" in found
}

# A sharp word is no reason yet; a message full of them is, and so is a conversation that turns bad.
inspect contains {
	"rule": "anger.strong",
	"verdict": "hand_off",
	"reason": "the customer is angry",
	"overridable": true,
} if {
	customer
	input.sentiment <= data.anger.alone
}

inspect contains {
	"rule": "anger.rising",
	"verdict": "hand_off",
	"reason": "the customer grows angry",
	"overridable": true,
} if {
	customer
	input.sentiment <= data.anger.sentiment
	input.sentiment_fall >= data.anger.fall
}

# Whoever writes to us gives questions, not orders.
inspect contains {
	"rule": "orders.customer",
	"verdict": "refuse",
	"reason": "the text gives orders to the system",
	"overridable": true,
} if {
	customer
	"orders" in found
}

inspect contains {
	"rule": "orders.elsewhere",
	"verdict": "refuse",
	"reason": "a document or a tool gives orders to the system",
} if {
	input.direction == "input"
	input.source != "customer"
	"orders" in found
}

inspect contains {
	"rule": "draft.unsupported",
	"verdict": "refuse",
	"reason": "the documents do not support the draft",
	"overridable": true,
} if {
	input.direction == "output"
	"unsupported" in found
}

# How a draft is written is judged as `data.voice.verdicts` of the bundles says, of two the stricter. Where they say
# nothing it is recorded and goes on: without another text, a hard sentence is better than none.
form := {
	"language": {"rule": "draft.language", "reason": "the draft is not in the customer's language"},
	"reading-level": {"rule": "draft.reading", "reason": "the draft is harder to read than the company wants"},
	"required-spelling": {"rule": "draft.spelling", "reason": "the draft spells a name otherwise than the company does"},
}

verdict_on(kind) := object.get(input, ["voice", "verdicts", kind], "allow")

inspect contains {
	"rule": form[kind].rule,
	"verdict": verdict_on(kind),
	"reason": form[kind].reason,
	"overridable": true,
} if {
	input.direction == "output"
	some finding in input.findings
	finding.score >= data.sure
	kind := finding.kind
	form[kind]
	verdict_on(kind) != "rewrite"
}

inspect contains {
	"rule": form["required-spelling"].rule,
	"verdict": "rewrite",
	"say": input.voice.spelt,
	"reason": form["required-spelling"].reason,
	"overridable": true,
} if {
	input.direction == "output"
	verdict_on("required-spelling") == "rewrite"
	some finding in input.findings
	finding.kind == "required-spelling"
}

inspect contains {
	"rule": "draft.wording",
	"verdict": "refuse",
	"reason": "the draft has words that the company does not use",
	"overridable": true,
} if {
	input.direction == "output"
	"wording" in found
}

# --- Tools: `tool.call`, with the facts effect, identity, confirmed, amount ------------------------------
#
# What no rule allows is refused, so each rule that allows says all that must be so.

# What a tool does to the world; one that does not say counts as the worst.
effect := object.get(input, ["facts", "effect"], "irreversible")

identified if input.facts.identity in {"verified", "strong"}

confirmed if input.facts.confirmed in {true, "true"}

# Without an amount nothing is paid; one that is no number, be it `false`, is within no limit.
amount := 0 if not given

given if {
	some fact, _ in input.facts
	fact == "amount"
}

amount := input.facts.amount if is_number(input.facts.amount)

amount := to_number(input.facts.amount) if {
	is_string(input.facts.amount)
	regex.match(`^[0-9]{1,12}(\.[0-9]{1,4})?$`, input.facts.amount)
}

tool contains {
	"rule": "tool.reads",
	"verdict": "allow",
	"reason": "the tool changes nothing",
} if {
	effect == "none"
}

tool contains {
	"rule": "tool.identity",
	"verdict": "ask",
	"reason": "who the customer is has to be known first",
} if {
	effect != "none"
	not identified
}

tool contains {
	"rule": "tool.confirm",
	"verdict": "ask",
	"reason": "what cannot be undone is confirmed by the customer first",
} if {
	effect == "irreversible"
	not confirmed
}

tool contains {
	"rule": "tool.changes",
	"verdict": "allow",
	"reason": "the customer is known, and the amount is within the limit",
} if {
	effect in {"reversible", "irreversible"}
	identified
	amount >= 0
	amount <= data.amount.most
}

tool contains {
	"rule": "tool.amount",
	"verdict": "hand_off",
	"reason": "the amount is for a person to decide on",
	"overridable": true,
} if {
	effect != "none"
	identified
	amount > data.amount.most
}

# --- Models: `model.use`, with the facts locality (inside, outside) and redacted ------------------------

route contains {
	"rule": "model.inside",
	"verdict": "allow",
	"reason": "the model runs on a node of ours",
} if {
	input.facts.locality == "inside"
}

route contains {
	"rule": "model.outside",
	"verdict": "allow",
	"reason": "an outside provider gets redacted text",
} if {
	input.facts.locality == "outside"
	redacted
}

route contains {
	"rule": "model.raw",
	"verdict": "refuse",
	"reason": "personal data does not go to an outside provider",
} if {
	input.facts.locality == "outside"
	not redacted
}

redacted if input.facts.redacted in {true, "true"}

# --- How long data is kept: `data.keep`, with the fact data ---------------------------------------------

retention contains {
	"rule": "keep.default",
	"keep_days": days,
	"reason": sprintf("%v is kept for %v days", [input.facts.data, days]),
	"overridable": true,
} if {
	days := data.keep_days[input.facts.data]
}

# --- Everything else ---------------------------------------------------------------------------------------

# What the documents do not answer, a person may.
decide contains {
	"rule": "unanswered.person",
	"verdict": "hand_off",
	"reason": "the documents do not answer the question",
	"overridable": true,
} if {
	input.action == "turn.unanswered"
}

# A person is always one step away.
decide contains {
	"rule": "handoff.offer",
	"verdict": "allow",
	"reason": "a person may always be offered",
} if {
	input.action == "handoff.offer"
}

# What was redacted goes back to those who act on it.
decide contains {
	"rule": "data.restore",
	"verdict": "allow",
	"reason": "agents, admins and tools may see what was redacted",
} if {
	input.action == "data.restore"
	input.facts.role in {"agent", "admin", "tool"}
}

# --- Sentences that have to be said -----------------------------------------------------------------------

# `data.voice.said` of the bundles, as far as it is for this product, law and channel and the draft lacks it. Who asks
# sentence by sentence says what the whole reply lacks, at its end.
disclosures contains {
	"rule": wording.rule,
	"say": wording.say,
	"reason": "the company wants it said in each reply",
	"overridable": true,
} if {
	input.direction == "output"
	some wording in input.voice.said
}
