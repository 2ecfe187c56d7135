-- Without an argument wrk asks for the URL over and over. With one, a number, each request is for
-- another page of articles, from that number on; all pages are full, and of 1 to 100 articles.
local number

local function another()
  number = number + 1
  local page, per_page = 1 + math.floor(number / 100), 1 + (number * 37) % 100
  return wrk.format(nil, "/api/articles?page=" .. page .. "&per_page=" .. per_page)
end

function init(args)
  if args[1] then
    number = tonumber(args[1])
    request = another
  end
end

function done(summary, latency, requests)
  io.write(string.format(
    '\n{"requests": %d, "us": %d, "p50": %d, "p99": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.status,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
