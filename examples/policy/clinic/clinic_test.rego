package switchboard_test

import data.switchboard

rules(decisions) := {decision.rule | some decision in decisions}

said(text) := {"direction": "input", "source": "customer", "text": text, "jurisdiction": "DE-BE"}

test_an_emergency_gets_a_number_and_a_person if {
	some decision in switchboard.inspect with input as said("My father has chest pain")
	decision.verdict == "hand_off"
	contains(decision.reason, "112")
}

test_an_unknown_country_has_a_number_in_words if {
	lost := object.union(said("he is unconscious"), {"jurisdiction": ""})
	some decision in switchboard.inspect with input as lost
	contains(decision.reason, "emergency service")
}

test_symptoms_go_to_a_person if {
	rules(switchboard.inspect) == {"symptoms"} with input as said("I have a rash since Monday")
}

test_opening_hours_do_not if {
	count(switchboard.inspect) == 0 with input as said("When do you open on Monday?")
}

test_a_document_may_speak_of_fever if {
	count(switchboard.inspect) == 0 with input as object.union(said("What to do with a fever"), {"source": "document"})
}

asked(names) := object.union(said("When do you open on Monday?"), {"detectors": {"names": names}})

test_a_text_whose_names_are_not_known_goes_to_a_person if {
	rules(switchboard.inspect) == {"names.unread"} with input as asked("unavailable")
	rules(switchboard.inspect) == {"names.unread"} with input as asked("partial")
	count(switchboard.inspect) == 0 with input as asked("ok")
	count(switchboard.inspect) == 0 with input as asked("off")
}

test_no_text_goes_to_an_outside_provider if {
	outside := {"facts": {"locality": "outside", "redacted": true}}
	rules(switchboard.route) == {"locality.inside"} with input as outside
	count(switchboard.route) == 0 with input as {"facts": {"locality": "inside"}}
}

test_only_appointments_are_changed if {
	prescription := {"facts": {"tool": "renew_prescription", "effect": "reversible"}}
	rules(switchboard.tool) == {"tool.appointments"} with input as prescription
	count(switchboard.tool) == 0 with input as {"facts": {"tool": "book_appointment", "effect": "reversible"}}
	rules(switchboard.tool) == {"tool.appointments"} with input as {"facts": {}}
}

test_conversations_are_kept_for_a_week if {
	some decision in switchboard.retention with input as {"facts": {"data": "conversation"}}
	decision.keep_days == 7
}
