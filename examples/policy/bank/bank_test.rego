package switchboard_test

import data.switchboard

rules(decisions) := {decision.rule | some decision in decisions}

draft(text) := {"direction": "output", "text": text, "product": "savings", "jurisdiction": "US-CA"}

test_a_savings_rate_comes_with_its_disclosure if {
	some decision in switchboard.disclosures with input as draft("The interest on savings is 4.1% APY.")
	decision.rule == "savings.variable_rate"
	contains(decision.say, "FDIC")
}

test_each_country_has_its_own_words if {
	british := object.union(draft("The rate is 4%."), {"jurisdiction": "GB"})
	some decision in switchboard.disclosures with input as british
	contains(decision.say, "FSCS")
}

test_a_draft_without_rates_needs_none if {
	count(switchboard.disclosures) == 0 with input as draft("Our branch opens at nine.")
	count(switchboard.inspect) == 0 with input as draft("Our branch opens at nine.")
}

test_another_product_has_another_disclosure if {
	loan := object.union(draft("Your monthly rate is 210."), {"product": "loan"})
	rules(switchboard.disclosures) == {"loan.representative"} with input as loan
}

test_a_rate_for_an_unknown_country_goes_to_a_person if {
	lost := object.union(draft("The rate is 4%."), {"jurisdiction": ""})
	rules(switchboard.inspect) == {"rates.country"} with input as lost
	count(switchboard.disclosures) == 0 with input as lost
}

test_no_draft_gives_advice if {
	rules(switchboard.inspect) == {"draft.advice"} with input as draft("You should buy this one.")
}

test_a_stolen_card_goes_to_a_person_at_once if {
	told := {"direction": "input", "source": "customer", "text": "Hi, my card was stolen yesterday"}
	rules(switchboard.inspect) == {"card.urgent"} with input as told
	asked := {"direction": "input", "source": "customer", "text": "How do I order a card?"}
	count(switchboard.inspect) == 0 with input as asked
}

call(facts) := {"facts": object.union({"effect": "reversible"}, facts)}

test_a_card_is_blocked_for_who_is_known if {
	known := call({"tool": "block_card", "identity": "verified"})
	rules(switchboard.tool) == {"tool.known"} with input as known
	rules(switchboard.tool) == {"tool.strength"} with input as call({"tool": "block_card"})
}

test_money_moves_for_the_strongly_known_up_to_a_limit if {
	transfer := {"tool": "transfer_own_accounts", "amount": 500}
	rules(switchboard.tool) == {"tool.known"} with input as call(object.union(transfer, {"identity": "strong"}))
	rules(switchboard.tool) == {"tool.strength"} with input as call(object.union(transfer, {"identity": "verified"}))
	free := object.union(transfer, {"identity": "strong", "effect": "none"})
	"tool.effect" in rules(switchboard.tool) with input as call(free)
	more := object.union(transfer, {"identity": "strong", "amount": 501})
	count(switchboard.tool) == 0 with input as call(more)
	odd := object.union(transfer, {"identity": "strong", "amount": "5e2"})
	count(switchboard.tool) == 0 with input as call(odd)
}

test_no_money_moves_without_an_amount if {
	transfer := {"tool": "transfer_own_accounts", "identity": "strong"}
	rules(switchboard.tool) == {"tool.no_amount"} with input as call(transfer)
	count(switchboard.tool) == 0 with input as call(object.union(transfer, {"amount": false}))
	count(switchboard.tool) == 0 with input as call(object.union(transfer, {"amount": null}))
	count(switchboard.tool) == 0 with input as call({"tool": "block_card", "identity": "verified", "amount": false})
}

test_a_tool_that_is_not_listed_changes_nothing if {
	rules(switchboard.tool) == {"tool.unlisted"} with input as call({"tool": "open_vault", "identity": "strong"})
	rules(switchboard.tool) == {"tool.unlisted"} with input as call({"identity": "strong"})
	count(switchboard.tool) == 0 with input as {"facts": {"effect": "none", "tool": "branch_hours"}}
}

test_conversations_are_kept_as_the_law_wants if {
	some decision in switchboard.retention with input as {"facts": {"data": "conversation"}}
	decision.keep_days == 1825
	decision.waives == "keep.default"
}
