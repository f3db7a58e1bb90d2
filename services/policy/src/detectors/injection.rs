//! Text that gives orders to the machinery: "ignore your instructions", a new persona, marks of a chat
//! format, things to be kept from the customer.
//!
//! Some phrases stand for themselves. Others are weak: "act as" is harmless, and so is "without
//! restrictions", but together with two more of their kind they are not. Weak ones count together
//! ([`combined`]), and only where enough of them meet.

use super::phrases::Rule;

pub(crate) const INJECTION: &str = "injection";
/// What several weak phrases together are called.
pub(super) const COMBINED: &str = "several-signs";
/// From this score on a phrase stands for itself; together weak ones have to reach it.
pub(super) const ENOUGH: f32 = 0.5;

/// How sure several independent signs make: each takes away its share of the doubt that is left.
pub(super) fn combined(scores: impl Iterator<Item = f32>) -> f32 {
    1.0 - scores.map(|score| 1.0 - score).product::<f32>()
}

pub(super) const SETS: [(&str, &str); 15] = [
    (
        "ignore",
        "ignore|ignoring|ignores|disregard|disregarding|forget|neglect|override|overrule|overwrite|bypass|\
      circumvent|dismiss|discard|abandon|violate|omit|unfollow",
    ),
    (
        "old",
        "previous|prior|above|earlier|preceding|foregoing|former|past|all|any|every|your|initial|original|these|\
      those|system|existing|current|other|previously",
    ),
    (
        "instructions",
        "instruction|instructions|directive|directives|rule|rules|guideline|guidelines|prompt|prompts|\
      command|commands|constraint|constraints|programming|safeguards|guardrails|instrutions|instructons",
    ),
    (
        "leak",
        "reveal|show|print|display|output|repeat|tell|give|share|disclose|leak|expose|dump|recite|write|\
      return|echo|what|whats|list|copy|paste|send",
    ),
    (
        "limits",
        "restriction|restrictions|limitation|limitations|filter|filters|censorship|rules|ethics|ethical|morals|\
      moral|morality|guidelines|boundaries|constraints|limits|warnings|disclaimer|disclaimers|safeguards|policies",
    ),
    (
        "persona",
        "dan|dude|aim|stan|jailbroken|unrestricted|unfiltered|uncensored|unlimited|amoral|evil|unethical|\
      jailbreak|antigpt|evilbot|devmode|unchained|lawless",
    ),
    ("machine", "ai|llm|llms|chatbot|chatgpt|gpt|assistant|assistants|bot|model|claude|gemini|copilot"),
    ("must", "must|should|shall|will|have|need|are|ought"),
    (
        "ignoriere",
        "ignoriere|ignorier|ignorieren|ignoriert|vergiss|vergesst|vergessen|missachte|missachten|übergehe|\
      umgehe|verwirf",
    ),
    (
        "anweisungen",
        "anweisung|anweisungen|instruktion|instruktionen|regel|regeln|vorgabe|vorgaben|befehl|befehle|\
      richtlinie|richtlinien|systemprompt|prompt",
    ),
    (
        "alle",
        "alle|allen|vorherigen|vorherige|bisherigen|bisherige|obigen|vorigen|deine|deinen|ihre|sämtliche|\
      früheren|vorangegangenen",
    ),
    (
        "ignorez",
        "ignore|ignorez|ignorer|oublie|oubliez|oublier|ignora|ignorar|ignoren|olvida|olvide|olvidar|omite|\
      omita|dimentica|dimenticare|ignorare|ignori|esqueca|esquece|esqueça|desconsidere|negeer|vergeet|zignoruj|\
      ignoruj|zapomnij|ignorera|glöm|ignorer|glem|ignoră|uită",
    ),
    (
        "instructions-abroad",
        "instruction|instructions|consigne|consignes|directive|directives|règles|instrucciones|\
      instrucción|indicaciones|reglas|ordenes|istruzioni|regole|direttive|instruções|regras|comandos|instructies|\
      opdrachten|regels|instrukcje|instrukcji|polecenia|poleceń|zasady|instruktioner|regler|instrucțiunile",
    ),
    ("забудь", "игнорируй*|игнорир*|забудь*|забуд*|проигнорир*|ігноруй*|забудь"),
    ("инструкции", "инструкци*|указани*|правил*|команд*|інструкці*"),
];

/// Rules about tasks for whoever answers: from a customer a weak sign, since to ask is what customers do;
/// in a document or in what a tool gave back nobody has anything to ask.
pub(super) const TASKS: [&str; 2] = ["shape-of-the-answer", "task"];
/// What a customer's task counts of a document's.
pub(super) const ASKED: f32 = 0.4;

pub(super) const RULES: [Rule; 14] = [
    Rule {
        name: "shape-of-the-answer",
        kind: INJECTION,
        score: 0.6,
        unless: "thank|thanks|await|awaiting",
        patterns: &[
            "provide|write|rewrite|give|translate|modify|enhance|alter|change|format|encode|convert|spell|reverse|craft|\
             adapt|style|make|phrase ~2 your ~1 response|answer|output|explanation|responses|answers",
            "include|integrate|introduce|insert|incorporate|embed|add|use|utilize|employ|apply|replace|append|mention|\
             suggest|recommend|advertise|promote|highlight|emphasize ~6 in|into|within|throughout|to your ~1 response|answer|output|responses|answers|explanation|solution|writing",
            "in|within|through your ~1 response|answer|output ~3 suggest|recommend|include|mention|use|add|write|insert|encourage|promote",
            "^ ensure|make ~1 sure|guarantee ~3 response|answer|output|reply ~3 includes|contains|is|has",
        ],
    },
    Rule {
        name: "task",
        kind: INJECTION,
        score: 0.5,
        unless: "",
        patterns: &[
            "^ write|compose|create|generate|develop|draft|craft ~5 story|poem|essay|speech|song|haiku|limerick|\
             joke|script|program|lyrics|dialogue|screenplay|blog",
            "^ please write|compose|create|generate|develop|draft ~5 story|poem|essay|speech|song|haiku|joke|script|program",
            "^ translate ~6 into|to english|german|french|spanish|italian|chinese|japanese|russian|korean|portuguese",
            "^ summarize|summarise|paraphrase|rewrite ~2 this|the|following ~2 text|article|paragraph|sentence|passage",
        ],
    },
    Rule {
        name: "ignore-instructions",
        kind: INJECTION,
        score: 0.95,
        unless: "",
        patterns: &[
            "{ignore} ~3 {old} ~3 {instructions}",
            "{ignore} ~3 {instructions} ~3 above|before|previously|earlier|prior|given|so",
            "{ignore} ~2 everything|anything|all|whatever ~4 told|said|above|before|instructed|learned|written|know",
            "not|dont|stop|never ~1 follow|following|obey|obeying ~3 {old} ~3 {instructions}",
            "no attention ~2 to ~3 {old} ~3 {instructions}",
            "instead of ~2 following ~3 {instructions}",
        ],
    },
    Rule {
        name: "ignore-instructions-abroad",
        kind: INJECTION,
        score: 0.95,
        unless: "",
        patterns: &[
            "{ignoriere} ~4 {alle} ~3 {anweisungen}",
            "{ignoriere} ~3 alles ~5",
            "{ignorez} ~5 {instructions-abroad}",
            "{забудь} ~4 {инструкции}",
            "önceki ~2 talimat* ~3 yoksay*|unut*|görmezden|dikkate",
            "忽略 ~8 指令",
            "忽略 ~8 指示",
            "忽略 ~8 提示",
            "忽略 ~8 规则",
            "无视 ~8 指令",
            "无视 ~8 指示",
            "忘记 ~8 指令",
            "忘记 ~8 指示",
            "指示 ~4 無視",
            "命令 ~4 無視",
            "指令 ~4 無視",
            "忽視 ~8 指令",
            "忽略 ~8 規則",
            "이전 ~3 지시* ~3 무시*",
            "지시* ~3 무시*",
            "명령* ~3 무시*",
            "تجاهل ~4 تعليمات|التعليمات|الأوامر|التوجيهات",
            "निर्देश* ~4 अनदेखा|नज़रअंदाज|भूल",
        ],
    },
    Rule {
        name: "prompt-leak",
        kind: INJECTION,
        score: 0.9,
        unless: "",
        patterns: &[
            "{leak} ~5 system|hidden|initial|original|secret|internal|developer|entire|full ~1 prompt|instructions|preprompt|message",
            "{leak} ~3 your ~1 prompt|preprompt",
            "print|repeat|output|recite|echo|dump|reveal|display ~2 above|all|your|previous|initial|these|preceding ~2 {instructions}",
            "repeat|recite|echo|dump ~2 {instructions} ~2 given|verbatim|above|received|in",
            "repeat|print|output|copy|echo|recite ~3 text|words|everything|all|lines|content ~3 above",
            "zeig|zeige|nenne|verrate|gib|wiederhole ~5 systemprompt|systemanweisung*|systemnachricht|prompt",
            "affiche|montre|muestra|revela|mostra|rivela ~5 prompt|système|sistema",
        ],
    },
    Rule {
        name: "no-limits-persona",
        kind: INJECTION,
        score: 0.9,
        unless: "",
        patterns: &[
            "you ~1 are|will ~4 {persona}",
            "youre|act|acting|behave|respond|answer|pretend|be|as|become|called|named ~3 {persona}",
            "do anything now",
            "dan|developer|god|jailbreak|opposite|admin|debug|debugging|sudo|root|unrestricted ~1 mode ~2 enabled|on|activated|active",
            "enter|enable|activate|simulate|with|in ~2 dan|developer|god|jailbreak|unrestricted|debug|sudo mode",
            "broken ~2 free ~4 confines|limits|ai",
            "jailbroken|jailbreak ~3 chatgpt|ai|gpt|prompt|mode|model|you",
        ],
    },
    Rule {
        name: "no-refusal",
        kind: INJECTION,
        score: 0.7,
        unless: "",
        patterns: &[
            "never|not|cannot|cant|dont|without|nor ~2 refuse|refuses|refusing|decline ~4 any|anything|to|request|answer|requests|order",
            "openai|openais|anthropic ~3 policy|policies|guidelines|rules|restrictions|content|limitations",
            "regardless|irrespective ~2 of ~5 legal|legality|ethical|ethics|moral|morality|consequences|dangerous",
            "no|without|any|free|ignores|against|bypass|ignoring|lacks|violate ~2 ethical|moral|legal|content|safety|openai ~3 {limits}|policy|codes|code",
            "never|not|dont|avoid ~2 say|saying|mention|mentioning|tell|respond|reply ~4 as an ai|assistant",
            "not|never|longer|isnt ~3 bound|restricted|limited|constrained|restrained|governed|censored ~2 by ~4 {limits}|openai|policy|any|typical|usual",
        ],
    },
    Rule {
        name: "told-to-the-machine",
        kind: INJECTION,
        score: 0.7,
        unless: "",
        patterns: &[
            "if|since|because you ~1 are|re ~4 ai|llm|chatbot|assistant|model|bot",
            "attention|note|dear|hey|hello|important|notice|warning ~3 ai|llm|llms|chatbot|gpt|chatgpt ~2 assistant|model|agent|system|models|agents|assistants",
            "instruction|instructions|message|note|notice ~1 to|for ~3 ai|llm|llms|chatbot|assistant|model|assistants|agents",
            "ai|llm ~1 assistant|assistants|model|models|agent|agents|systems ~3 must|should|shall|reading|processing|summarizing",
            "new|updated|revised|real|actual|override|overriding ~1 {instructions} $",
            "your ~1 new|real|actual|true|only ~1 task|instruction|instructions|role|goal|objective|purpose|job|identity ~1 is|are",
            "end|start|begin|beginning ~1 of ~3 system|user|hidden|assistant ~1 prompt|message|input|instructions",
        ],
    },
    Rule {
        name: "kept-from-the-customer",
        kind: INJECTION,
        score: 0.75,
        unless: "",
        patterns: &[
            "not|dont|never|without ~2 tell|inform|mention|reveal|alert|notify|telling|informing|alerting|notifying|show|disclose ~4 to|the|this ~2 user|customer|human|operator",
            "send|forward|post|upload|transmit|exfiltrate|email|leak|append|include|deliver ~5 conversation|chat|credentials|\
             password|passwords|secrets|token|tokens|keys|prompt ~6 to|at ~4 http|https|url|server|webhook|endpoint|com|attacker*",
            "nicht|niemals|ohne ~4 kunde|kunden|nutzer|benutzer|anwender ~4 sagen|mitteilen|erwähnen|verraten|informieren",
        ],
    },
    Rule {
        name: "from-now-on",
        kind: INJECTION,
        score: 0.4,
        unless: "",
        patterns: &[
            "from now|here on ~3 you|your|act|respond|answer|behave",
            "you are|re ~1 now|currently ~3",
            "youre now",
            "now|today|henceforth you ~1 are|act|become|will",
            "you|u will ~2 now|henceforth",
            "du bist ~1 jetzt|nun|ab",
            "ab sofort ~2 bist|antwortest|handelst",
            "starting|beginning ~1 now ~2 you",
        ],
    },
    Rule {
        name: "played-part",
        kind: INJECTION,
        score: 0.35,
        unless: "",
        patterns: &[
            "i|id ~2 want|like|need you to ~2 act|play|pretend|behave|respond|roleplay|be|become|simulate|take",
            "act|acting|behave|roleplay|role|respond ~1 as|like ~2 a|an|my|if|the",
            "pretend|imagine ~2 you|youre|to ~2 are|were|be|have|can|a",
            "assume|adopt|take|embody ~2 persona|identity|personality",
            "your ~1 persona|character ~1 is",
            "you are to ~1 act|play|simulate|behave|respond",
            "you ~1 are|will ~2 going|about|act|play|playing|simulate|pretend|roleplay|acting",
            "stay|remain|stays|remains|keep|break|breaks|breaking ~2 character",
            "tu|verhalte|handle ~2 so|wie ~2 als|ein|eine",
        ],
    },
    Rule {
        name: "no-limits",
        kind: INJECTION,
        score: 0.3,
        unless: "",
        patterns: &[
            "without|no|any|free|zero|lack|remove|removed|ignore|bypass ~3 {limits}",
            "unfiltered|uncensored|unrestricted|unethical|immoral|amoral|illegal",
            "nsfw",
            "disregard|disregards|ignores|breaks ~3 laws|rules|morals|ethics|concerns",
            "no matter ~1 what|how",
            "ohne ~2 einschränkungen|filter|regeln|grenzen|zensur",
            "obey|comply ~4 me|all|every|any|commands|request|orders",
        ],
    },
    Rule {
        name: "about-the-machine",
        kind: INJECTION,
        score: 0.2,
        unless: "",
        patterns: &[
            "chatgpt|openai|gpt|llm|gpt3|gpt4",
            "language model",
            "as an ai",
            "ai ~1 assistant|chatbot|model",
            "system prompt",
        ],
    },
    Rule {
        name: "form-of-the-answer",
        kind: INJECTION,
        score: 0.25,
        unless: "",
        patterns: &[
            "my|your|the first ~1 request|question|command|prompt|task|sentence|message|order ~1 is",
            "respond|reply|answer|responses|replies ~2 only|exclusively|always|both|two",
            "do|must|should not|never ~1 write|provide|give|include|add|break ~3 explanation|explanations|warnings|disclaimers|notes|character",
            "prefix|begin|start|precede ~2 every|each|your|all ~2 response|responses|answer|reply|message|sentence",
            "hypothetical|fictional|fictitious ~2 response|scenario|character|story|world|situation",
            "if you understand|understood|agree",
        ],
    },
];

/// Marks of chat formats, in lower case, which nobody writes by hand.
pub(super) const MARKS: [&str; 22] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|begin_of_text|>",
    "[inst]",
    "[/inst]",
    "<<sys>>",
    "<</sys>>",
    "### instruction",
    "###instruction",
    "### system",
    "<system>",
    "</system>",
    "[system]",
    "<system_prompt>",
    "<start_of_turn>",
    "[system message]",
];

/// The name of what [`MARKS`] find, and how sure they are.
pub(super) const MARK: (&str, f32) = ("chat-format", 0.8);

/// Phrases without spaces, for text whose spaces were taken away or put everywhere.
pub(super) const SQUEEZED: [&str; 12] = [
    "ignorepreviousinstructions",
    "ignoreallpreviousinstructions",
    "ignoreallprevious",
    "ignoreallinstructions",
    "ignoretheaboveinstructions",
    "ignoretheprevious",
    "disregardpreviousinstructions",
    "disregardallprevious",
    "forgetallpreviousinstructions",
    "forgetpreviousinstructions",
    "revealyoursystemprompt",
    "showmeyoursystemprompt",
];

/// Words that a phrase of this table hardly does without, by which text backwards and rotated is told.
pub(super) const TELLING: [&str; 10] = [
    "ignore",
    "instructions",
    "disregard",
    "system prompt",
    "jailbreak",
    "previous",
    "unrestricted",
    "anweisungen",
    "ignoriere",
    "developer mode",
];
