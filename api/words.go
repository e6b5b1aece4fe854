package api

import "lockstep/node/ledger"

// language is one of the languages that people are answered in.
type language string

const (
	english language = "en"
	korean  language = "ko"
)

// wording explains a code in one language: what it is called, what it means and what to do.
type wording struct{ title, meaning, action string }

// bilingual is a wording in both languages.
type bilingual struct{ en, ko wording }

func (b bilingual) in(l language) wording {
	if l == korean {
		return b.ko
	}
	return b.en
}

// earlierRequest is what every answer given before the claim was read says about the requests before it.
var earlierRequest = map[language]string{
	english: "An earlier request with this Idempotency-Key that had no definite answer is asked about by repeating it with the same key.",
	korean:  "같은 Idempotency-Key로 보낸 이전 요청이 확정된 답을 받지 못했다면, 그 요청을 같은 키로 다시 보내어 결과를 확인하십시오.",
}

// words has an entry for every code of rules.
var words = map[ledger.Code]bilingual{
	ledger.InvalidRequest: {
		wording{"Invalid request", "The request is not of the form that this path takes.", "Compare the request with /openapi.yaml; the detail names the first thing that does not fit."},
		wording{"잘못된 요청", "요청의 형식이 올바르지 않습니다.", "요청을 /openapi.yaml과 비교하십시오. 상세 설명에 맞지 않는 부분이 적혀 있습니다."},
	},
	ledger.InvalidAmount: {
		wording{"Invalid amount", "The amount is not a positive decimal string with at most the decimals of its currency.", "Send amounts as JSON strings in the major unit, such as \"1500\" for KRW or \"12.34\" for USD."},
		wording{"잘못된 금액", "금액은 통화의 소수 자릿수를 넘지 않는 양의 십진수 문자열이어야 합니다.", "금액을 주 단위의 JSON 문자열로 보내십시오. 예: KRW는 \"1500\", USD는 \"12.34\"."},
	},
	ledger.IdempotencyKeyMissing: {
		wording{"Idempotency-Key missing", "A request that changes something needs the header Idempotency-Key.", "Send a fresh key of 1 to 255 visible characters, such as a UUID, and keep it for every repeat of the request."},
		wording{"멱등 키 누락", "상태를 바꾸는 요청에는 Idempotency-Key 헤더가 필요합니다.", "UUID처럼 1~255자의 새 키를 보내고, 같은 요청을 반복할 때는 같은 키를 사용하십시오."},
	},
	ledger.InvalidCredentials: {
		wording{"Invalid credentials", "The name or the password is wrong.", "Check both and sign in again."},
		wording{"잘못된 로그인 정보", "이름 또는 비밀번호가 올바르지 않습니다.", "둘 다 확인한 뒤 다시 로그인하십시오."},
	},
	ledger.LoginRefused: {
		wording{"Sign-in not completed", "What came back from the sign-in provider is not a good answer to a sign-in that this browser has begun.", "Start again from the sign-in page."},
		wording{"로그인 실패", "로그인 제공자의 응답이 이 브라우저에서 시작한 로그인과 맞지 않습니다.", "로그인 화면에서 다시 시작하십시오."},
	},
	ledger.Unauthenticated: {
		wording{"Not signed in", "The request carries no valid access token.", "Sign in again, or get a token from POST /v1/oauth/token and send it as Authorization: Bearer, and repeat the request with the same Idempotency-Key."},
		wording{"인증 필요", "요청에 유효한 액세스 토큰이 없습니다.", "다시 로그인하거나 POST /v1/oauth/token에서 토큰을 받아 Authorization: Bearer로 보내고, 같은 Idempotency-Key로 요청을 반복하십시오."},
	},
	ledger.Forbidden: {
		wording{"Not allowed", "The token is valid but does not allow this.", "Ask an operator for the scope that the detail names."},
		wording{"권한 없음", "토큰은 유효하지만 이 작업은 허용되지 않습니다.", "필요한 권한 범위(scope)를 운영자에게 요청하십시오."},
	},
	ledger.AccountNotFound: {
		wording{"Account not found", "There is no such account among those that you may use.", "Check the number and that the account belongs to you."},
		wording{"계좌 없음", "사용할 수 있는 계좌 중에 해당 계좌가 없습니다.", "계좌 번호와 계좌의 소유자를 확인하십시오."},
	},
	ledger.TransferNotFound: {
		wording{"Transfer not found", "There is no such transfer among those that you may see. This proves nothing about a request without an answer.", "Check the id. To learn what became of a request, repeat it with the same Idempotency-Key."},
		wording{"이체 내역 없음", "조회할 수 있는 이체 중에 해당 이체가 없습니다. 이 답은 응답받지 못한 요청의 결과를 증명하지 않습니다.", "이체 ID를 확인하십시오. 요청의 결과는 같은 Idempotency-Key로 요청을 반복하여 확인하십시오."},
	},
	ledger.HoldNotFound: {
		wording{"Hold not found", "There is no such hold on an account of yours.", "Check the id of the hold."},
		wording{"보류 내역 없음", "본인 계좌에 해당 보류 내역이 없습니다.", "보류 ID를 확인하십시오."},
	},
	ledger.NotFound: {
		wording{"Not found", "There is nothing at this address.", "See /openapi.yaml for the paths of this system."},
		wording{"찾을 수 없음", "이 주소에는 아무것도 없습니다.", "사용할 수 있는 경로는 /openapi.yaml에서 확인하십시오."},
	},
	ledger.MethodNotAllowed: {
		wording{"Method not allowed", "The path exists but not with this method.", "Use one of the methods in the header Allow."},
		wording{"허용되지 않는 메서드", "이 경로에서는 해당 HTTP 메서드를 사용할 수 없습니다.", "Allow 헤더에 있는 메서드를 사용하십시오."},
	},
	requestTimeout: {
		wording{"Request timeout", "The request did not arrive whole in time; nothing was started.", "Repeat the request with the same Idempotency-Key."},
		wording{"요청 시간 초과", "요청 전체가 제시간에 도착하지 않아 아무것도 시작되지 않았습니다.", "같은 Idempotency-Key로 요청을 반복하십시오."},
	},
	ledger.RequestInProgress: {
		wording{"Request in progress", "A request with this Idempotency-Key is being carried out; its outcome is not known yet.", "Repeat the request with the same key after Retry-After."},
		wording{"처리 중인 요청", "같은 Idempotency-Key의 요청이 처리 중이며 결과는 아직 알 수 없습니다.", "Retry-After 이후 같은 키로 요청을 반복하십시오."},
	},
	ledger.InvalidState: {
		wording{"Invalid state", "What the request is about is no longer, or not yet, in a state that allows it.", "Read the present state with GET and decide anew."},
		wording{"처리할 수 없는 상태", "대상의 현재 상태에서는 이 요청을 처리할 수 없습니다.", "GET으로 현재 상태를 조회한 뒤 다시 결정하십시오."},
	},
	ledger.UsernameTaken: {
		wording{"Username taken", "Somebody else has this username.", "Choose another one."},
		wording{"이미 사용 중인 이름", "다른 사람이 이미 사용하는 이름입니다.", "다른 이름을 선택하십시오."},
	},
	ledger.PayloadTooLarge: {
		wording{"Request too large", "A request body has at most 64 KiB.", "Split the request, for example into several batches."},
		wording{"요청이 너무 큼", "요청 본문은 최대 64KiB입니다.", "요청을 여러 개로 나누어 보내십시오."},
	},
	ledger.UnsupportedMediaType: {
		wording{"Unsupported media type", "A request body is UTF-8 JSON, sent as application/json without Content-Encoding.", "Send Content-Type: application/json and no compressed body."},
		wording{"지원하지 않는 형식", "요청 본문은 Content-Encoding 없이 application/json으로 보내는 UTF-8 JSON이어야 합니다.", "Content-Type: application/json으로, 압축하지 않고 보내십시오."},
	},
	ledger.RateLimited: {
		wording{"Too many requests", "This caller sends more requests than it may.", "Repeat the request with the same Idempotency-Key after Retry-After."},
		wording{"요청이 너무 많음", "허용된 것보다 많은 요청을 보냈습니다.", "Retry-After 이후 같은 Idempotency-Key로 요청을 반복하십시오."},
	},
	ledger.InsufficientFunds: {
		wording{"Insufficient funds", "The account has less than the amount available.", "Add money or ask for less, under a new Idempotency-Key: the refusal is the stored answer of this one."},
		wording{"잔액부족", "계좌의 출금 가능 잔액이 요청한 금액보다 적습니다.", "입금하거나 금액을 줄인 뒤 새 Idempotency-Key로 요청하십시오. 이 키에는 거절 결과가 저장되어 있습니다."},
	},
	ledger.CurrencyMismatch: {
		wording{"Currency mismatch", "The account keeps another currency.", "Use accounts of the amount's currency; money is not exchanged."},
		wording{"통화 불일치", "계좌의 통화가 요청한 통화와 다릅니다.", "같은 통화의 계좌를 사용하십시오. 환전은 제공하지 않습니다."},
	},
	ledger.SameAccount: {
		wording{"Same account", "Payer and payee are the same account.", "Name two different accounts."},
		wording{"동일 계좌", "보내는 계좌와 받는 계좌가 같습니다.", "서로 다른 두 계좌를 지정하십시오."},
	},
	ledger.AccountFrozen: {
		wording{"Account frozen", "An operator has frozen the account; no money moves on it.", "Ask an operator to open it, then use a new Idempotency-Key."},
		wording{"정지된 계좌", "운영자가 계좌를 정지하여 입출금할 수 없습니다.", "운영자에게 해제를 요청한 뒤 새 Idempotency-Key로 요청하십시오."},
	},
	ledger.AccountClosed: {
		wording{"Account closed", "The account is closed for good.", "Use another account."},
		wording{"해지된 계좌", "이미 해지된 계좌입니다.", "다른 계좌를 사용하십시오."},
	},
	ledger.BalanceOutOfRange: {
		wording{"Balance out of range", "The balance would leave the range that an account can keep.", "Use another account, or move money away first and use a new Idempotency-Key."},
		wording{"잔액 한도 초과", "잔액이 계좌가 보관할 수 있는 범위를 벗어납니다.", "다른 계좌를 사용하거나 먼저 금액을 옮긴 뒤 새 Idempotency-Key로 요청하십시오."},
	},
	ledger.IdempotencyKeyReused: {
		wording{"Idempotency-Key reused", "The Idempotency-Key belongs to an earlier request with other contents. This request did nothing.", "Use a new key for a new request; repeat a request without any change."},
		wording{"멱등 키 재사용", "이 Idempotency-Key는 내용이 다른 이전 요청에 사용되었습니다. 이번 요청은 처리되지 않았습니다.", "새 요청에는 새 키를 사용하고, 반복할 때는 내용을 바꾸지 마십시오."},
	},
	ledger.PayeeNotFound: {
		wording{"Payee not found", "There is no account with the payee's number.", "Check the number with the payee; GET /v1/payees/{number} shows the masked name."},
		wording{"받는 계좌 없음", "받는 계좌 번호에 해당하는 계좌가 없습니다.", "받는 분에게 계좌 번호를 확인하십시오. GET /v1/payees/{number}로 예금주 이름 일부를 볼 수 있습니다."},
	},
	ledger.PeerUnknown: {
		wording{"Payment system unknown", "This system cannot pay to the system that the number names.", "Check the part of the number before the hyphen. Holds and batches stay inside one system."},
		wording{"알 수 없는 결제 시스템", "계좌 번호의 결제 시스템으로는 보낼 수 없습니다.", "번호의 하이픈 앞부분을 확인하십시오. 보류와 일괄 이체는 한 시스템 안에서만 가능합니다."},
	},
	ledger.SignatureInvalid: {
		wording{"Signature invalid", "The request is not signed as a peer of this system signs it.", "Check the keys that both systems have pinned, the clock, and that nothing on the way changes the request."},
		wording{"잘못된 서명", "요청이 등록된 상대 시스템의 서명 방식과 맞지 않습니다.", "양쪽에 등록된 키와 시계를 확인하고, 중간에서 요청이 바뀌지 않는지 확인하십시오."},
	},
	ledger.SignatureReplayed: {
		wording{"Request replayed", "A signed request with this nonce has been here before.", "Sign every request anew, repeats too."},
		wording{"재전송된 요청", "같은 논스(nonce)로 서명된 요청이 이미 도착했습니다.", "반복하는 요청도 매번 새로 서명하십시오."},
	},
	ledger.PeerRefused: {
		wording{"Refused by the payee's system", "The system that keeps the payee's account has refused the payment; nothing moved.", "Ask the payee, then use a new Idempotency-Key."},
		wording{"상대 시스템의 거절", "받는 계좌의 시스템이 이체를 거절했으며 금액은 이동하지 않았습니다.", "받는 분에게 확인한 뒤 새 Idempotency-Key로 요청하십시오."},
	},
	ledger.PeerCapExceeded: {
		wording{"Cap between the systems reached", "The two systems take no more from each other before they have settled; nothing moved.", "Try again later under a new Idempotency-Key."},
		wording{"시스템 간 한도 초과", "두 시스템이 정산하기 전에는 더 받을 수 없으며 금액은 이동하지 않았습니다.", "나중에 새 Idempotency-Key로 다시 요청하십시오."},
	},
	ledger.PeerUnavailable: {
		wording{"The payee's system does not answer", "The system that keeps the payee's account gave no answer in time, so the payment was given up; nothing moved.", "Try again later under a new Idempotency-Key."},
		wording{"상대 시스템 응답 없음", "받는 계좌의 시스템이 제때 응답하지 않아 이체를 취소했으며 금액은 이동하지 않았습니다.", "나중에 새 Idempotency-Key로 다시 요청하십시오."},
	},
	ledger.ProviderUnavailable: {
		wording{"Sign-in provider unavailable", "The provider that this sign-in goes through does not answer. Those who are signed in stay so.", "Try again after Retry-After, or sign in with a password."},
		wording{"로그인 제공자 응답 없음", "로그인 제공자가 응답하지 않습니다. 이미 로그인한 상태에는 영향이 없습니다.", "Retry-After 이후 다시 시도하거나 비밀번호로 로그인하십시오."},
	},
	ledger.LimitExceeded: {
		wording{"Daily limit reached", "The account may not pay out as much on one day.", "Ask for less or on another day, or ask an operator for a higher limit, then use a new Idempotency-Key: the refusal is the stored answer of this one."},
		wording{"1일 한도 초과", "계좌의 1일 출금 한도를 넘는 금액입니다.", "금액을 줄이거나 다음 날 다시 시도하고, 한도 상향은 운영자에게 요청하십시오. 이 키에는 거절 결과가 저장되어 있으므로 새 Idempotency-Key를 사용하십시오."},
	},
	ledger.HoldExceeded: {
		wording{"More than the hold", "A capture takes at most the amount of its hold.", "Capture less, which is another request and takes a new Idempotency-Key, or make another hold."},
		wording{"보류 금액 초과", "보류한 금액보다 많이 출금할 수 없습니다.", "새 Idempotency-Key로 더 적은 금액을 요청하거나 새로 보류하십시오."},
	},
	ledger.Overloaded: {
		wording{"Overloaded", "The system has more to do than it can finish in time; this request was not started.", "Repeat the request with the same Idempotency-Key after Retry-After."},
		wording{"과부하", "처리할 요청이 많아 이 요청은 시작되지 않았습니다.", "Retry-After 이후 같은 Idempotency-Key로 요청을 반복하십시오."},
	},
	ledger.SourceUnavailable: {
		wording{"Database unavailable", "The database that takes changes cannot be reached at the moment; this request changed nothing.", "Repeat the request with the same Idempotency-Key after Retry-After."},
		wording{"데이터베이스 연결 불가", "변경을 처리하는 데이터베이스에 연결할 수 없어 이 요청은 아무것도 바꾸지 않았습니다.", "Retry-After 이후 같은 Idempotency-Key로 요청을 반복하십시오."},
	},
	ledger.GatewayUnknown: {
		wording{"No answer from the node", "The balancer got no answer from the node that it sent the request to; it may have been carried out. The balancer says so with status 502 or 504.", "Repeat the request with the same Idempotency-Key: that gives its answer, or carries it out once."},
		wording{"노드 응답 없음", "로드 밸런서가 노드의 응답을 받지 못했습니다. 요청이 처리되었을 수도 있습니다. 상태 코드는 502 또는 504입니다.", "같은 Idempotency-Key로 요청을 반복하십시오. 이미 처리된 결과를 받거나 한 번만 처리됩니다."},
	},
	ledger.OutcomeUnknown: {
		wording{"Outcome unknown", "The request may have been carried out; this node could not learn it in time.", "Repeat the request with the same Idempotency-Key: that gives its answer, or carries it out once."},
		wording{"결과 알 수 없음", "요청이 처리되었을 수도 있지만 제시간에 결과를 확인하지 못했습니다.", "같은 Idempotency-Key로 요청을 반복하십시오. 이미 처리된 결과를 받거나 한 번만 처리됩니다."},
	},
	ledger.Internal: {
		wording{"Internal error", "An error of this system; the request changed nothing.", "Repeat the request with the same Idempotency-Key later; if it stays, give the request_id to an operator."},
		wording{"내부 오류", "시스템 내부 오류이며 이 요청은 아무것도 바꾸지 않았습니다.", "나중에 같은 Idempotency-Key로 반복하고, 계속되면 request_id를 운영자에게 알려 주십시오."},
	},
}
