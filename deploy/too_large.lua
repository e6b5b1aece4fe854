-- Answers a request whose body is too large, after reading the body. HAProxy's own
-- deny answers at once and closes; what is still coming in then makes the kernel
-- reset the connection, and the client loses the answer. Nothing is stored.
local drained_bytes_max = 64 * 1024 * 1024 -- beyond it the answer may be lost
local chunk_bytes = 16 * 1024

core.register_service("too_large", "http", function(applet)
	local left = drained_bytes_max
	while left > 0 do
		local chunk = applet:receive(chunk_bytes)
		if chunk == nil or #chunk == 0 then
			break
		end
		left = left - #chunk
	end
	local body = applet:get_var("txn.problem")
	applet:set_status(413)
	applet:add_header("Content-Type", "application/problem+json")
	applet:add_header("Content-Length", tostring(#body))
	applet:add_header("Request-Id", applet:get_var("txn.request_id"))
	applet:start_response()
	applet:send(body)
end)
