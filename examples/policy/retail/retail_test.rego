package switchboard_test

import data.switchboard

rules(decisions) := {decision.rule | some decision in decisions}

call(facts) := {"facts": object.union({"tool": "refund_order", "effect": "reversible"}, facts)}

test_a_small_refund_needs_no_person if {
	some decision in switchboard.tool with input as call({"identity": "verified", "amount": 20})
	decision.verdict == "allow"
	decision.waives == "tool.amount"
}

test_who_is_known_better_may_get_more if {
	count(switchboard.tool) == 0 with input as call({"identity": "verified", "amount": 120})
	rules(switchboard.tool) == {"refund.small"} with input as call({"identity": "strong", "amount": "120"})
}

test_strangers_other_tools_and_odd_amounts_get_nothing if {
	count(switchboard.tool) == 0 with input as call({"amount": 20})
	count(switchboard.tool) == 0 with input as call({"identity": "verified", "amount": 20, "tool": "pay_anybody"})
	count(switchboard.tool) == 0 with input as call({"identity": "verified", "amount": -20})
	count(switchboard.tool) == 0 with input as call({"identity": "verified", "amount": "20 or more"})
}

test_a_refund_says_how_much_it_is if {
	rules(switchboard.tool) == {"refund.no_amount"} with input as call({"identity": "strong"})
}

draft(text) := {"direction": "output", "text": text, "jurisdiction": "DE"}

test_a_warranty_is_never_told_alone if {
	rules(switchboard.disclosures) == {"warranty.statutory"} with input as draft("The warranty lasts two years.")
}

test_the_right_to_withdraw_is_told_where_it_is_law if {
	text := draft("Our return policy is simple.")
	rules(switchboard.disclosures) == {"withdrawal.period"} with input as text
	bavaria := object.union(text, {"jurisdiction": "DE-BY"})
	rules(switchboard.disclosures) == {"withdrawal.period"} with input as bavaria
	count(switchboard.disclosures) == 0 with input as object.union(text, {"jurisdiction": "US-CA"})
}

test_a_question_needs_no_disclosure if {
	question := {"direction": "input", "text": "What about the warranty?", "jurisdiction": "DE"}
	count(switchboard.disclosures) == 0 with input as question
}

test_conversations_are_kept_for_two_weeks if {
	some decision in switchboard.retention with input as {"facts": {"data": "conversation"}}
	decision.keep_days == 14
}
