package console

import "fmt"

// phrase is one text in both languages.
type phrase struct{ en, ko string }

// say writes the text of a key; values fill its verbs.
func say(language Language, key string, values ...any) (string, error) {
	text, there := phrases[key]
	if !there {
		return "", fmt.Errorf("there are no words for %q", key)
	}
	words := text.en
	if language == Korean {
		words = text.ko
	}
	if len(values) > 0 {
		words = fmt.Sprintf(words, values...)
	}
	return words, nil
}

// Problem tells a person what a problem of this code means for what they were doing. Codes that only programs can cause
// have the words of a failure of ours.
func Problem(language Language, code string) string {
	words, err := say(language, "problem."+code)
	if err != nil {
		words, _ = say(language, "problem.internal") // it is there
	}
	return words
}

// phrases are all texts of the pages.
var phrases = map[string]phrase{
	"skip":     {"Skip to the content", "본문으로 건너뛰기"},
	"language": {"한국어", "English"},
	"noscript": {"The wallet needs JavaScript to move money. Your accounts can be read without it.", "송금에는 자바스크립트가 필요합니다. 계좌 조회는 자바스크립트 없이도 됩니다."},

	"nav.accounts": {"Accounts", "계좌"},
	"nav.send":     {"Send", "송금"},
	"nav.deposit":  {"Deposit", "입금"},
	"nav.withdraw": {"Withdraw", "출금"},
	"nav.settings": {"Settings", "설정"},
	"nav.main":     {"Main", "주 메뉴"},
	"nav.signout":  {"Sign out", "로그아웃"},
	"nav.you":      {"Signed in as %s", "%s 님으로 로그인됨"},

	"signin.title":     {"Sign in", "로그인"},
	"signin.lead":      {"Every payment happens exactly once.", "모든 결제는 정확히 한 번만 이루어집니다."},
	"signin.body":      {"Double clicks, lost connections and restarts never move your money twice. What you see here is what is in the ledger.", "두 번 누르거나, 연결이 끊기거나, 서버가 다시 시작되어도 돈은 두 번 나가지 않습니다. 화면의 금액은 원장의 금액과 같습니다."},
	"signin.google":    {"Continue with Google", "Google로 계속하기"},
	"signin.or":        {"or", "또는"},
	"signin.username":  {"User name", "사용자 이름"},
	"signin.password":  {"Password", "비밀번호"},
	"signin.submit":    {"Sign in", "로그인"},
	"signin.working":   {"Signing in…", "로그인하는 중…"},
	"signin.new":       {"New here?", "처음이신가요?"},
	"signin.register":  {"Create a sign-in", "회원 가입"},
	"signin.show":      {"Show", "표시"},
	"signin.hide":      {"Hide", "숨기기"},
	"register.title":   {"Create a sign-in", "회원 가입"},
	"register.hint":    {"At least 10 characters. A sentence is easier to remember than a riddle.", "10자 이상. 복잡한 암호보다 한 문장이 기억하기 쉽습니다."},
	"register.names":   {"Small letters, digits, and . _ - ", "영문 소문자, 숫자, . _ - "},
	"register.submit":  {"Create and sign in", "가입하고 로그인"},
	"register.working": {"Creating…", "가입하는 중…"},
	"register.have":    {"You have one already?", "이미 회원이신가요?"},

	"home.title":       {"Accounts", "계좌"},
	"home.total":       {"Available in total", "사용 가능 총액"},
	"home.open":        {"Open an account", "계좌 개설"},
	"home.empty":       {"No accounts yet", "아직 계좌가 없습니다"},
	"home.emptybody":   {"Open your first account. It is free, takes a second, and starts at zero.", "첫 계좌를 개설해 보십시오. 무료이며, 바로 만들어지고, 잔액 0에서 시작합니다."},
	"home.recent":      {"Recent activity", "최근 거래"},
	"home.nothing":     {"Nothing has moved yet.", "아직 거래가 없습니다."},
	"home.nothingbody": {"Deposits, withdrawals and transfers show here as soon as they happen.", "입금, 출금, 송금이 이루어지면 바로 여기에 표시됩니다."},
	"home.more":        {"You have more accounts than fit here; the first 200 are shown.", "계좌가 많아 처음 200개만 표시합니다."},

	"account.untitled":  {"Account", "계좌"},
	"account.available": {"Available", "사용 가능"},
	"account.posted":    {"Booked balance", "장부 잔액"},
	"account.held":      {"Held", "보류 중"},
	"account.coming":    {"On its way to you", "입금 예정"},
	"account.copy":      {"Copy", "복사"},
	"account.copied":    {"Copied", "복사됨"},
	"account.number":    {"Account number", "계좌 번호"},
	"account.frozen":    {"Frozen", "동결됨"},
	"account.closed":    {"Closed", "해지됨"},
	"account.opened":    {"Opened on %s", "%s 개설"},
	"account.statement": {"Statement", "거래 내역"},

	"filter.kind":     {"Kind", "종류"},
	"filter.all":      {"All", "전체"},
	"filter.first":    {"From", "시작일"},
	"filter.last":     {"To", "종료일"},
	"filter.apply":    {"Show", "조회"},
	"filter.clear":    {"Clear", "초기화"},
	"filter.export":   {"Download CSV", "CSV 내려받기"},
	"filter.older":    {"Older entries", "이전 거래"},
	"filter.newest":   {"Back to the newest", "최근 거래로"},
	"filter.none":     {"No entries fit these filters.", "조건에 맞는 거래가 없습니다."},
	"filter.nonebody": {"Choose other dates or another kind, or clear the filters.", "기간이나 종류를 바꾸거나 조건을 초기화해 보십시오."},
	"filter.zone":     {"Days and times are those of %s.", "날짜와 시각은 %s 기준입니다."},
	"filter.title":    {"Filters", "조회 조건"},

	"kind.deposit":    {"Deposit", "입금"},
	"kind.withdrawal": {"Withdrawal", "출금"},
	"kind.transfer":   {"Transfer", "이체"},
	"kind.out":        {"Sent", "보냄"},
	"kind.in":         {"Received", "받음"},
	"kind.among":      {"Between own accounts", "내 계좌 간 이체"},
	"kind.capture":    {"Card or hold payment", "승인 결제"},
	"kind.return":     {"Returned", "반환"},

	"column.time":        {"Time", "시각"},
	"column.kind":        {"Kind", "종류"},
	"column.other":       {"Other account", "상대 계좌"},
	"column.description": {"Note", "메모"},
	"column.amount":      {"Amount", "금액"},
	"column.currency":    {"Currency", "통화"},
	"column.after":       {"Balance after", "거래 후 잔액"},
	"column.transfer":    {"Transfer id", "거래 번호"},

	"open.title":    {"Open an account", "계좌 개설"},
	"open.lead":     {"Choose a currency. It stays with the account for good.", "통화를 선택하십시오. 통화는 나중에 바꿀 수 없습니다."},
	"open.currency": {"Currency", "통화"},
	"open.label":    {"Name", "계좌 이름"},
	"open.hint":     {"Others who send to this account see the name masked, such as “R**t m***y”.", "이 계좌로 보내는 사람에게는 이름이 ‘생*비’처럼 가려져 보입니다."},
	"open.submit":   {"Open the account", "계좌 개설하기"},
	"open.working":  {"Opening…", "개설하는 중…"},

	"form.from":         {"From", "보내는 계좌"},
	"form.account":      {"Account", "계좌"},
	"form.to":           {"To", "받는 계좌"},
	"form.toplace":      {"alpha-00000000100042", "alpha-00000000100042"},
	"form.amount":       {"Amount", "금액"},
	"form.note":         {"Note", "메모"},
	"form.optional":     {"optional", "선택"},
	"form.notehint":     {"The recipient sees it, too.", "받는 분에게도 표시됩니다."},
	"form.have":         {"%s available", "사용 가능 %s"},
	"form.after":        {"Left afterwards", "거래 후 잔액"},
	"form.cancel":       {"Cancel", "취소"},
	"form.back":         {"Change", "수정"},
	"form.noaccount":    {"You need an account first", "먼저 계좌가 필요합니다"},
	"form.noaccountsay": {"Open one, and come back here.", "계좌를 개설한 뒤 다시 시도해 주십시오."},
	"form.required":     {"Please fill this in.", "입력해 주십시오."},
	"form.badamount":    {"Write an amount such as %s.", "%s처럼 금액을 입력해 주십시오."},
	"form.badnumber":    {"This is no account number: a system, a hyphen and 14 digits, such as alpha-00000000100042. Please look for a typing error.", "계좌 번호가 아닙니다. alpha-00000000100042처럼 시스템 이름, 붙임표, 숫자 14자리로 되어 있습니다. 오타가 없는지 확인해 주십시오."},
	"form.again":        {"Start a new one", "새로 시작하기"},
	"form.asking":       {"No answer yet. Asking again; your money moves at most once.", "아직 응답이 없습니다. 다시 확인하고 있습니다. 돈은 최대 한 번만 이동합니다."},

	"deposit.title":   {"Deposit", "입금"},
	"deposit.lead":    {"Pay money into one of your accounts.", "내 계좌에 돈을 넣습니다."},
	"deposit.submit":  {"Deposit", "입금하기"},
	"deposit.amount":  {"Deposit %s", "%s 입금하기"},
	"deposit.working": {"Depositing…", "입금하는 중…"},

	"withdraw.title":   {"Withdraw", "출금"},
	"withdraw.lead":    {"Pay money out of one of your accounts.", "내 계좌에서 돈을 뺍니다."},
	"withdraw.submit":  {"Withdraw", "출금하기"},
	"withdraw.amount":  {"Withdraw %s", "%s 출금하기"},
	"withdraw.working": {"Withdrawing…", "출금하는 중…"},

	"send.title":      {"Send money", "송금"},
	"send.lead":       {"To an account here, or of another payment system.", "이 시스템이나 다른 결제 시스템의 계좌로 보냅니다."},
	"send.review":     {"Check and send", "확인하고 보내기"},
	"send.confirm":    {"Is this right?", "이대로 보낼까요?"},
	"send.submit":     {"Send %s", "%s 보내기"},
	"send.working":    {"Sending…", "보내는 중…"},
	"send.payee":      {"Recipient", "받는 분"},
	"send.looking":    {"Looking the account up…", "계좌를 확인하는 중…"},
	"send.unnamed":    {"Account without a name", "이름 없는 계좌"},
	"send.elsewhere":  {"in %s, another payment system", "다른 결제 시스템 %s"},
	"send.here":       {"in this system", "이 시스템"},
	"send.currency":   {"This account keeps %s. Choose an account of yours in that currency.", "이 계좌의 통화는 %s입니다. 같은 통화의 내 계좌를 선택해 주십시오."},
	"send.final":      {"A payment cannot be called back.", "송금은 취소할 수 없습니다."},
	"send.nosuch":     {"There is no such account. Please check the number with the recipient.", "해당 계좌가 없습니다. 받는 분에게 계좌 번호를 확인해 주십시오."},
	"send.nosystem":   {"This system is not connected to that one.", "연결되지 않은 결제 시스템입니다."},
	"send.nolookup":   {"The account cannot be looked up right now. Please try again in a moment.", "지금은 계좌를 확인할 수 없습니다. 잠시 후 다시 시도해 주십시오."},
	"send.needlookup": {"Please wait until the recipient is shown.", "받는 분이 표시될 때까지 기다려 주십시오."},

	"transfer.title":    {"Transfer", "거래"},
	"transfer.pending":  {"On its way", "처리 중"},
	"transfer.posted":   {"Done", "완료"},
	"transfer.voided":   {"Did not go through", "처리되지 않음"},
	"transfer.pendinge": {"The amount is held while the other system answers. You may leave this page: it goes on by itself and moves at most once.", "상대 시스템의 응답을 기다리는 동안 금액이 보류됩니다. 이 페이지를 떠나도 계속 진행되며, 돈은 최대 한 번만 이동합니다."},
	"transfer.voidede":  {"No money has moved, and the held amount is free again.", "돈은 이동하지 않았고 보류된 금액은 다시 사용할 수 있습니다."},
	"transfer.from":     {"From", "보낸 계좌"},
	"transfer.to":       {"To", "받은 계좌"},
	"transfer.cash":     {"Cash", "현금"},
	"transfer.note":     {"Note", "메모"},
	"transfer.id":       {"Transfer id", "거래 번호"},
	"transfer.time":     {"Time", "시각"},
	"transfer.steps":    {"What happened", "진행 상황"},
	"transfer.live":     {"This page follows by itself.", "이 페이지는 자동으로 갱신됩니다."},
	"transfer.back":     {"To the accounts", "계좌로 돌아가기"},
	"transfer.another":  {"Send again", "다시 송금"},

	"step.held":     {"Amount held on your account", "내 계좌에서 금액 보류"},
	"step.reserved": {"Announced by the other system", "상대 시스템이 입금 예고"},
	"step.pending":  {"In progress", "진행 중"},
	"step.posted":   {"Booked", "기장 완료"},
	"step.voided":   {"Given up; the amount is free again", "취소되어 보류 해제"},
	"step.credited": {"Credited to the recipient", "받는 분 계좌에 입금됨"},
	"step.waiting":  {"Waiting for the other system", "상대 시스템의 응답 대기"},

	"settings.title":      {"Settings", "설정"},
	"settings.outdo":      {"Sign out", "로그아웃"},
	"settings.sessions":   {"Where you are signed in", "로그인된 기기"},
	"settings.current":    {"This one", "현재 기기"},
	"settings.unknown":    {"Unknown browser", "알 수 없는 브라우저"},
	"settings.since":      {"since %s", "%s부터"},
	"settings.everywhere": {"Sign out everywhere", "모든 기기에서 로그아웃"},
	"settings.password":   {"Change the password", "비밀번호 변경"},
	"settings.current_pw": {"Present password", "현재 비밀번호"},
	"settings.new_pw":     {"New password", "새 비밀번호"},
	"settings.change":     {"Change it", "변경하기"},
	"settings.changing":   {"Changing…", "변경하는 중…"},
	"settings.changed":    {"The password is changed. All other devices are signed out.", "비밀번호를 변경했습니다. 다른 모든 기기에서는 로그아웃되었습니다."},

	"failure.home":    {"Back to the accounts", "계좌로 돌아가기"},
	"failure.retry":   {"Try again", "다시 시도"},
	"failure.request": {"Request %s", "요청 번호 %s"},

	"problem.insufficient_funds":     {"The account has less than this available. Enter a smaller amount, or deposit first.", "계좌의 사용 가능 금액보다 많습니다. 금액을 줄이거나 먼저 입금해 주십시오."},
	"problem.payee_not_found":        {"There is no such account. Nothing was sent.", "받는 계좌가 없습니다. 송금되지 않았습니다."},
	"problem.same_account":           {"Both sides are the same account. Nothing was sent.", "보내는 계좌와 받는 계좌가 같습니다. 송금되지 않았습니다."},
	"problem.account_frozen":         {"One of the two accounts is frozen. Nothing moved.", "두 계좌 중 하나가 동결되어 있습니다. 돈은 이동하지 않았습니다."},
	"problem.account_closed":         {"One of the two accounts is closed. Nothing moved.", "두 계좌 중 하나가 해지되었습니다. 돈은 이동하지 않았습니다."},
	"problem.account_not_found":      {"There is no such account among yours.", "내 계좌 중에 해당 계좌가 없습니다."},
	"problem.transfer_not_found":     {"There is no such transfer among yours.", "내 거래 중에 해당 거래가 없습니다."},
	"problem.not_found":              {"There is no page at this address.", "이 주소에는 페이지가 없습니다."},
	"problem.currency_mismatch":      {"The two accounts keep different currencies. Nothing was sent.", "두 계좌의 통화가 다릅니다. 송금되지 않았습니다."},
	"problem.limit_exceeded":         {"This would exceed the account's limit for today. Nothing moved.", "계좌의 오늘 한도를 넘습니다. 돈은 이동하지 않았습니다."},
	"problem.peer_unavailable":       {"The other payment system does not answer. Nothing was sent; please try again later.", "상대 결제 시스템이 응답하지 않습니다. 송금되지 않았으니 나중에 다시 시도해 주십시오."},
	"problem.peer_unknown":           {"This system is not connected to that one. Nothing was sent.", "연결되지 않은 결제 시스템입니다. 송금되지 않았습니다."},
	"problem.peer_refused":           {"The other payment system refused. Nothing was sent.", "상대 결제 시스템이 거절했습니다. 송금되지 않았습니다."},
	"problem.peer_cap_exceeded":      {"The other payment system takes no more at the moment. Nothing was sent; please try again later.", "상대 결제 시스템이 지금은 더 받을 수 없습니다. 송금되지 않았으니 나중에 다시 시도해 주십시오."},
	"problem.transfer_aborted":       {"The transfer was given up. Nothing was sent.", "송금이 취소되었습니다. 돈은 이동하지 않았습니다."},
	"problem.idempotency_key_reused": {"This form was sent before, with other contents. Look at your accounts, then start a new one.", "이 양식은 다른 내용으로 이미 전송되었습니다. 계좌를 확인한 뒤 새로 시작해 주십시오."},
	"problem.rate_limited":           {"Too many attempts. Please wait a moment.", "시도가 너무 많습니다. 잠시 기다려 주십시오."},
	"problem.overloaded":             {"It is very busy right now. Nothing happened; please try again in a moment.", "지금은 이용자가 많습니다. 아무것도 처리되지 않았으니 잠시 후 다시 시도해 주십시오."},
	"problem.source_unavailable":     {"Nothing can be changed for the moment. Please try again soon.", "지금은 변경할 수 없습니다. 잠시 후 다시 시도해 주십시오."},
	"problem.invalid_amount":         {"This is no amount of this currency.", "이 통화의 금액이 아닙니다."},
	"problem.invalid_credentials":    {"The name or the password is not right.", "사용자 이름 또는 비밀번호가 올바르지 않습니다."},
	"problem.username_taken":         {"Somebody has this name already. Please choose another.", "이미 사용 중인 이름입니다. 다른 이름을 선택해 주십시오."},
	"problem.balance_out_of_range":   {"The account cannot hold that much. Nothing moved.", "계좌에 담을 수 있는 금액을 넘습니다. 돈은 이동하지 않았습니다."},
	"problem.forbidden":              {"You may not do this.", "이 작업을 할 수 없습니다."},
	"problem.provider_unavailable":   {"The sign-in service does not answer. Please use your password, or try again later.", "로그인 서비스가 응답하지 않습니다. 비밀번호로 로그인하거나 나중에 다시 시도해 주십시오."},
	"problem.login_refused":          {"The sign-in was not completed. Please start again from the sign-in page.", "로그인이 완료되지 않았습니다. 로그인 화면에서 다시 시작해 주십시오."},
	"problem.internal":               {"Something went wrong on our side. Nothing was changed.", "시스템에 문제가 생겼습니다. 아무것도 변경되지 않았습니다."},
	"problem.unknown":                {"We could not learn whether it happened. Press the button again: it asks for the same payment and never makes a second one.", "처리 여부를 확인하지 못했습니다. 버튼을 다시 누르십시오. 같은 거래를 확인할 뿐 두 번 처리되지 않습니다."},
	"problem.unknowntitle":           {"No answer", "응답 없음"},
}
