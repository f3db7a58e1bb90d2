# A bank. Examples of: disclosures that are data (product, country, words), a draft that is stopped because it
# gives advice, tools by strength of identity, and data that the law wants kept for longer.
package switchboard

text := lower(input.text)

# The country of "US-CA" is "US".
country := split(input.jurisdiction, "-")[0]

# --- What comes in ------------------------------------------------------------------------------------------

# A stolen card is urgent, however calmly it is told.
inspect contains {
	"rule": "card.urgent",
	"verdict": "hand_off",
	"reason": "a card may be in wrong hands",
} if {
	input.direction == "input"
	input.source == "customer"
	some words in data.urgent
	contains(text, words)
}

# --- What goes out ------------------------------------------------------------------------------------------

inspect contains {
	"rule": "draft.advice",
	"verdict": "refuse",
	"reason": "the draft gives investment advice, which takes a licence",
} if {
	input.direction == "output"
	some words in data.advice
	contains(text, words)
}

# A draft about rates that names no country could need any of the disclosures: better none than a wrong one.
inspect contains {
	"rule": "rates.country",
	"verdict": "hand_off",
	"reason": "rates differ by country, and the customer's is not known",
} if {
	input.direction == "output"
	some disclosure in data.disclosures
	applies(disclosure)
	not country in disclosure.countries
}

disclosures contains {
	"rule": disclosure.rule,
	"say": disclosure.say[country],
	"reason": sprintf("the draft speaks of %v in %v", [input.product, country]),
} if {
	input.direction == "output"
	some disclosure in data.disclosures
	applies(disclosure)
	country in disclosure.countries
}

applies(disclosure) if {
	input.product in disclosure.products
	some word in disclosure.words
	contains(text, word)
}

# --- Tools --------------------------------------------------------------------------------------------------

strength := {"verified": 1, "strong": 2}

given if {
	some fact, _ in input.facts
	fact == "amount"
}

# What moves money says how much.
silent if {
	input.facts.tool in data.moves_money
	not given
}

amount := 0 if {
	not given
	not silent
}

amount := input.facts.amount if is_number(input.facts.amount)

amount := to_number(input.facts.amount) if {
	is_string(input.facts.amount)
	regex.match(`^[0-9]{1,12}(\.[0-9]{1,2})?$`, input.facts.amount)
}

known_enough if strength[input.facts.identity] >= strength[data.tools[input.facts.tool]]

# The base lets whoever is known do what costs nothing; here each tool says how well.
tool contains {
	"rule": "tool.strength",
	"verdict": "ask",
	"reason": "the tool takes a customer who is known better",
} if {
	data.tools[input.facts.tool]
	not known_enough
}

# What moves money cannot claim to change nothing.
tool contains {
	"rule": "tool.effect",
	"verdict": "refuse",
	"reason": "the tool moves money, and is said to change nothing",
} if {
	input.facts.tool in data.moves_money
	input.facts.effect == "none"
}

tool contains {
	"rule": "tool.known",
	"verdict": "allow",
	"reason": "the tool is on the list, the customer known well enough, the amount within their limit",
	"waives": "tool.amount",
} if {
	known_enough
	amount >= 0
	amount <= data.limits[input.facts.identity]
}

tool contains {
	"rule": "tool.no_amount",
	"verdict": "refuse",
	"reason": "the tool moves money, and no amount is given",
} if silent

# The base allows what changes nothing; here tools that change something are those of the list.
tool contains {
	"rule": "tool.unlisted",
	"verdict": "refuse",
	"reason": "the tool is not on the bank's list",
} if {
	object.get(input, ["facts", "effect"], "irreversible") != "none"
	not data.tools[object.get(input, ["facts", "tool"], "")]
}

# --- How long data is kept ----------------------------------------------------------------------------------

# The law wants five years; the base's month is taken back.
retention contains {
	"rule": "keep.law",
	"keep_days": days,
	"reason": "records of banking conversations are kept as the law wants",
	"waives": "keep.default",
} if {
	days := data.keep_days[input.facts.data]
}
