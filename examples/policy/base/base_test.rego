# `switchboard policy test examples/policy/base` runs these; a bundle whose tests fail is never loaded.
package switchboard_test

import data.switchboard

said(found) := {
	"direction": "input",
	"source": "customer",
	"findings": [{"kind": kind, "score": 0.9} | some kind in found],
	"sentiment": 0,
	"sentiment_fall": 0,
}

rules(decisions) := {decision.rule | some decision in decisions}

test_a_plain_question_goes_on if {
	count(switchboard.inspect) == 0 with input as said([])
}

test_danger_goes_to_a_person_and_no_tenant_can_change_that if {
	some decision in switchboard.inspect with input as said(["risk-self-harm"])
	decision.verdict == "hand_off"
	not decision.overridable
}

test_a_dispute_and_a_wish_for_a_person_go_to_one if {
	rules(switchboard.inspect) == {"risk.dispute"} with input as said(["risk-chargeback"])
	rules(switchboard.inspect) == {"person.asked"} with input as said(["human-requested"])
}

test_a_finding_that_is_not_sure_changes_nothing if {
	unsure := object.union(said([]), {"findings": [{"kind": "risk-threat", "score": 0.2}]})
	count(switchboard.inspect) == 0 with input as unsure
}

test_anger_counts_when_it_is_strong_or_rises if {
	sharp := object.union(said([]), {"sentiment": -0.6})
	count(switchboard.inspect) == 0 with input as sharp
	rising := object.union(sharp, {"sentiment_fall": 0.3})
	rules(switchboard.inspect) == {"anger.rising"} with input as rising
	strong := object.union(said([]), {"sentiment": -0.85})
	rules(switchboard.inspect) == {"anger.strong"} with input as strong
}

test_what_is_not_answered_goes_to_a_person if {
	rules(switchboard.decide) == {"unanswered.person"} with input as {"action": "turn.unanswered", "facts": {}}
}

test_orders_of_a_document_are_refused_for_good if {
	orders := object.union(said(["injection"]), {"source": "document"})
	some decision in switchboard.inspect with input as orders
	decision.rule == "orders.elsewhere"
	not decision.overridable
}

test_a_document_may_speak_of_lawyers if {
	text := object.union(said(["risk-legal"]), {"source": "document"})
	count(switchboard.inspect) == 0 with input as text
}

test_an_unsupported_draft_is_refused if {
	draft := object.union(said(["number-disagrees"]), {"direction": "output"})
	rules(switchboard.inspect) == {"draft.unsupported"} with input as draft
}

written(kinds, wanted) := object.union(said(kinds), {
	"direction": "output",
	"voice": {"verdicts": wanted, "said": [], "spelt": "Join ACME Plus."},
})

test_how_a_draft_is_written_is_recorded_where_no_bundle_says_more if {
	form := {"reading-level": "draft.reading", "language": "draft.language", "required-spelling": "draft.spelling"}
	every kind, rule in form {
		rules(switchboard.inspect) == {rule} with input as written([kind], {})
		verdicts(switchboard.inspect) == {"allow"} with input as written([kind], {})
	}
}

test_a_bundle_says_what_becomes_of_it if {
	strict := {"language": "hand_off", "reading-level": "refuse"}
	verdicts(switchboard.inspect) == {"hand_off"} with input as written(["language"], strict)
	verdicts(switchboard.inspect) == {"refuse"} with input as written(["reading-level"], strict)
	count(switchboard.inspect) == 0 with input as written([], strict)
	customer := object.union(written(["language"], strict), {"direction": "input"})
	count(switchboard.inspect) == 0 with input as customer
}

test_a_name_is_spelt_as_the_company_does if {
	some decision in switchboard.inspect with input as written(["required-spelling"], {"required-spelling": "rewrite"})
	decision.verdict == "rewrite"
	decision.say == "Join ACME Plus."
}

test_what_a_draft_lacks_has_to_be_said if {
	lacks := {"voice": {"verdicts": {}, "said": [{"rule": "shop.imprint", "say": "ACME Ltd, Leeds."}]}}
	draft := object.union(written([], {}), lacks)
	rules(switchboard.disclosures) == {"shop.imprint"} with input as draft
	count(switchboard.disclosures) == 0 with input as object.union(draft, {"direction": "input"})
	count(switchboard.disclosures) == 0 with input as object.union(said([]), {"direction": "output"})
}

call(facts) := {"action": "tool.call", "facts": facts}

verdicts(decisions) := {decision.verdict | some decision in decisions}

test_reading_is_allowed if {
	verdicts(switchboard.tool) == {"allow"} with input as call({"effect": "none"})
}

test_a_tool_that_does_not_say_what_it_does_is_not_allowed if {
	not "allow" in verdicts(switchboard.tool) with input as call({})
	not "allow" in verdicts(switchboard.tool) with input as call({"effect": "harmless", "identity": "verified"})
}

test_a_stranger_is_asked_who_they_are if {
	verdicts(switchboard.tool) == {"ask"} with input as call({"effect": "reversible", "amount": 0.0})
}

test_what_cannot_be_undone_is_confirmed if {
	known := {"effect": "irreversible", "identity": "verified"}
	"tool.confirm" in rules(switchboard.tool) with input as call(known)
	verdicts(switchboard.tool) == {"allow"} with input as call(object.union(known, {"confirmed": true}))
	verdicts(switchboard.tool) == {"allow"} with input as call(object.union(known, {"confirmed": "true"}))
}

test_an_amount_goes_to_a_person_and_one_that_is_none_is_not_allowed if {
	known := {"effect": "reversible", "identity": "verified"}
	"hand_off" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": "12.50"}))
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": "lots"}))
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": [1]}))
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": false}))
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": null}))
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": ""}))
	verdicts(switchboard.tool) == {"allow"} with input as call(known)
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": "-5"}))
	not "allow" in verdicts(switchboard.tool) with input as call(object.union(known, {"amount": -5}))
}

test_an_outside_model_gets_redacted_text_alone if {
	outside := {"locality": "outside"}
	verdicts(switchboard.route) == {"refuse"} with input as {"facts": outside}
	redacted := {"facts": object.union(outside, {"redacted": "true"})}
	verdicts(switchboard.route) == {"allow"} with input as redacted
	count(switchboard.route) == 0 with input as {"facts": {"locality": "moon"}}
}

test_data_is_kept_as_long_as_it_is_said if {
	some decision in switchboard.retention with input as {"facts": {"data": "conversation"}}
	decision.keep_days == 30
	count(switchboard.retention) == 0 with input as {"facts": {"data": "dreams"}}
}

test_a_person_may_always_be_offered if {
	verdicts(switchboard.decide) == {"allow"} with input as {"action": "handoff.offer"}
	count(switchboard.decide) == 0 with input as {"action": "anything.else"}
}

test_customers_do_not_see_what_was_redacted if {
	verdicts(switchboard.decide) == {"allow"} with input as {"action": "data.restore", "facts": {"role": "agent"}}
	count(switchboard.decide) == 0 with input as {"action": "data.restore", "facts": {"role": "customer-app"}}
}
