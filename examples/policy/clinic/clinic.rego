# A clinic. Examples of: no outside provider whatever the text, emergencies that are answered with a sentence and
# a person, drafts that must not sound like a doctor, and data that is kept for a week.
package switchboard

text := lower(input.text)

customer if {
	input.direction == "input"
	input.source == "customer"
}

# --- What comes in ------------------------------------------------------------------------------------------

inspect contains {
	"rule": "emergency",
	"verdict": "hand_off",
	"reason": sprintf("this may be an emergency: say the number %v, and get a person", [number]),
} if {
	customer
	some words in data.emergency
	contains(text, words)
}

number := object.get(data.emergency_numbers, split(input.jurisdiction, "-")[0], "of the emergency service")

# Questions about symptoms are for people who may answer them.
inspect contains {
	"rule": "symptoms",
	"verdict": "hand_off",
	"reason": "the patient speaks of symptoms or of a medicine",
} if {
	customer
	some words in data.symptoms
	contains(text, words)
}

# Names are what a clinic keeps to itself. The model that finds them is set by whoever runs the node; where it is set
# and has not read a text, a person does.
inspect contains {
	"rule": "names.unread",
	"verdict": "hand_off",
	"reason": "names could not be looked for",
} if {
	customer
	input.detectors.names in {"partial", "unavailable"}
}

# --- Where models run ---------------------------------------------------------------------------------------

# Stricter than the base, which lets redacted text out: a name of an illness is no personal data by itself, and
# tells of one all the same.
route contains {
	"rule": "locality.inside",
	"verdict": "refuse",
	"reason": "what patients write stays on our own nodes",
} if {
	input.facts.locality != "inside"
}

# --- Tools --------------------------------------------------------------------------------------------------

# Appointments and nothing else. The base asks who the patient is.
tool contains {
	"rule": "tool.appointments",
	"verdict": "refuse",
	"reason": "only appointments are changed by a machine",
} if {
	object.get(input, ["facts", "effect"], "irreversible") != "none"
	not object.get(input, ["facts", "tool"], "") in data.tools
}

# --- How long data is kept ----------------------------------------------------------------------------------

# Shorter than the base's, so it needs no waiver: the shortest holds.
retention contains {
	"rule": "keep.week",
	"keep_days": days,
	"reason": "patients' conversations are kept for a week",
} if {
	days := data.keep_days[input.facts.data]
}
