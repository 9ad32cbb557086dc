-- Only `done`: a `request` or `response` function would make wrk call Lua for every exchange.
function done(summary)
   local errors = summary.errors
   io.write(string.format('{"right": %d, "wrong": %d}\n', summary.requests,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
