-- Shows the Wormhole protocol (transport/wire/PROTOCOL.md) inside decrypted QUIC: requests, replies, pushes.
--
-- Use: wireshark -X lua_script:wormhole.lua -o tls.keylog_file:KEYS CAPTURE; README.md has the rest. Wireshark 4.0 or newer.
-- QUIC hands over the bytes of each STREAM frame by ALPN; stream, offset and end come from the fields of that frame. Messages are
-- gathered here: Wireshark 4.0 does not put them together for a dissector in Lua.

local ALPN = "wormhole/1"
local wormhole = Proto("wormhole", "Wormhole")

-- Bounds of PROTOCOL.md, "Limits".
local REQUEST_BYTES_MAX, REPLY_BYTES_MAX, PUSH_BYTES_MAX = 65536, 262144, 65536
local DATA_BYTES_MAX, PACKED_BYTES_MAX = 1048576, 262144
-- STREAM frames of one stream kept until the one before them comes.
local EARLY_MAX = 1024

local REQUESTS = { "Hello", "Stat", "List", "Readlink", "Read", "Verify", "Statfs", "GetXattr", "ListXattr", "Lease", "Release",
    "ReadFiles" }
local REPLIES = { [0] = "Error", "Welcome", "Attr", "Listing", "Link", "Data", "Verified", "Statfs", "Value", "Leased",
    "Released", "Files", "PackedListing" }
local PUSHES = { "Changed", "Revoked", "RevokedAll" }
local CLASSES = { "warm-up", "read-ahead", "metadata", "demand" }
local ERRORS = { [0] = "ok", "not found", "not a directory", "is a directory", "permission denied", "stale", "I/O", "busy",
    "refused", "invalid", "no attribute", "not supported", "loop", "version mismatch", "stopping", "not a regular file" }
local BOUNDS = { [0] = "not said", "congestion window (Cubic)", "congestion window (BBR)", "receive window of the mount",
    "send window of the host", "disk", "memory", "bandwidth of one mount", "bandwidth of the host",
    "answers under way to one mount", "answers under way from the host", "requests under way", "round trip", "nothing is asked" }
local FILE_KINDS = { [0] = "unknown", "regular", "directory", "symlink", "FIFO", "socket", "character device", "block device" }
local GRANTS = { [0] = "none wanted", "granted", "unwatchable", "exhausted" }
local MODES = { "read-only" }
local FINGERPRINTS = { "BLAKE3", "XXH3" }
local FINGERPRINT_BYTES = { 32, 16 }

local f = {}
local function field(kind, name, title, ...)
    local filter = "wormhole." .. name
    f[name] = ProtoField[kind](filter, title, ...)
end

field("uint8", "request", "Request", base.DEC, REQUESTS)
field("uint8", "reply", "Reply", base.DEC, REPLIES)
field("uint8", "push", "Push", base.DEC, PUSHES)
field("uint8", "class", "Class", base.DEC, CLASSES)
field("uint16", "flags", "Flags", base.HEX)
field("bool", "flags.packed", "PackedListing is taken", 16, nil, 1)
field("uint32", "body_len", "Bytes of the body")
field("uint32", "deadline", "Deadline (ms)")
field("bytes", "reserved", "Reserved")
field("uint64", "id", "Id")
field("uint16", "status", "Status", base.DEC, ERRORS)
field("uint8", "bound", "Bound", base.DEC, BOUNDS)
field("uint32", "data_len", "Bytes of data")
field("uint64", "waited", "Waited at the host (ns)")
field("uint64", "answered", "Answered after that in (ns)")
field("bytes", "data", "Data")
field("string", "error", "Error text")
field("uint64", "stream", "Stream")
field("framenum", "reply_in", "Reply in", base.NONE, frametype.RESPONSE)
field("framenum", "request_in", "Request in", base.NONE, frametype.REQUEST)
field("relative_time", "time", "Time since the request")
field("relative_time", "whole_time", "Time from the request to the last byte")
field("uint16", "version_min", "Oldest protocol version")
field("uint16", "version_max", "Newest protocol version")
field("uint16", "version", "Protocol version")
field("bytes", "proof", "Proof")
field("bytes", "ticket", "Ticket id")
field("uint8", "mode", "Mode", base.DEC, MODES)
field("uint64", "expiry", "Ends at (seconds since 1970, 0: never)")
field("string", "prefix", "Prefix")
field("string", "share_name", "Share name")
field("string", "label", "Label")
field("uint64", "session", "Session")
field("uint64", "boot", "Boot", base.HEX)
field("uint16", "count", "Count")
field("uint16", "share", "Share")
field("string", "path", "Path")
field("uint8", "has_file_id", "File id follows")
field("uint64", "fs", "File system", base.HEX)
field("uint64", "inode", "Inode")
field("uint64", "birth", "Birth", base.HEX)
field("uint8", "file_kind", "File kind", base.DEC, FILE_KINDS)
field("uint8", "attr_flags", "Flags", base.HEX)
field("bool", "attr_flags.settled", "Settled", 8, nil, 1)
field("uint16", "permissions", "Permission bits", base.OCT)
field("uint32", "links", "Links")
field("uint32", "uid", "Uid")
field("uint32", "gid", "Gid")
field("uint32", "rdev", "Device number", base.HEX)
field("uint32", "block_bytes", "Block bytes")
field("uint64", "blocks", "Blocks")
field("absolute_time", "atime", "atime", base.UTC)
field("absolute_time", "mtime", "mtime", base.UTC)
field("absolute_time", "ctime", "ctime", base.UTC)
field("uint64", "size", "Size")
field("uint64", "start", "Start")
field("uint32", "length", "Length")
field("uint64", "cookie", "Cookie")
field("uint32", "page_len", "Bytes of entries wanted")
field("uint64", "lease", "Lease")
field("uint8", "end", "End of the listing")
field("uint8", "grant", "Grant", base.DEC, GRANTS)
field("uint8", "entry_flags", "Flags", base.HEX)
field("bool", "entry_flags.attr", "Attr follows", 8, nil, 1)
field("string", "name", "Name")
field("string", "link", "Link target")
field("string", "xattr", "Attribute name")
field("bytes", "value", "Value")
field("uint8", "fingerprint", "Fingerprint", base.DEC, FINGERPRINTS)
field("bytes", "hash", "Hash")
field("uint8", "equal", "Equal")
field("uint32", "name_max", "Longest name")
field("uint64", "blocks_free", "Blocks free")
field("uint64", "blocks_available", "Blocks available")
field("uint64", "files", "Files")
field("uint64", "files_free", "Files free")
field("uint32", "unpacked_len", "Bytes unpacked")
field("bytes", "packed", "LZ4 block")
field("uint8", "what", "What", base.HEX)
field("bool", "what.created", "Created", 8, nil, 1)
field("bool", "what.removed", "Removed", 8, nil, 2)
field("bool", "what.contents", "Contents", 8, nil, 4)
field("bool", "what.attributes", "Attributes", 8, nil, 8)
field("uint8", "change_flags", "Flags", base.HEX)
field("bool", "change_flags.file_id", "FileId follows", 8, nil, 1)
field("bytes", "garbage", "Bytes that are no message")

local all = {}
for _, one in pairs(f) do all[#all + 1] = one end
wormhole.fields = all

local malformed = ProtoExpert.new("wormhole.malformed", "Against the protocol", expert.group.MALFORMED, expert.severity.ERROR)
local refused = ProtoExpert.new("wormhole.failed", "The host answers with an error", expert.group.RESPONSE_CODE,
    expert.severity.NOTE)
wormhole.experts = { malformed, refused }

local stream_id = Field.new("quic.stream.stream_id")
local stream_offset = Field.new("quic.stream.offset")
local stream_fin = Field.new("quic.stream.fin")
local connection = Field.new("quic.connection.number")

-- Of each connection its host, of each stream its request and reply. Made anew with each capture.
local hosts, streams = {}, {}
function wormhole.init()
    hosts, streams = {}, {}
end

-- A message that is none: told apart from a fault of this script, which Wireshark shall show.
local Broken = {}
local function broken(what)
    error(setmetatable({ what = what }, Broken), 0)
end

-- Reads a message from the front and shows what it reads; never past its end.
local Reader = {}
Reader.__index = Reader
function Reader.new(tvb, at, len, tree)
    return setmetatable({ tvb = tvb, at = at, stop = at + len, tree = tree }, Reader)
end
function Reader:left()
    return self.stop - self.at
end
function Reader:take(len, what)
    if len > self:left() then
        broken(string.format("%s needs %d bytes, %d are left", what, len, self:left()))
    end
    local range = len > 0 and self.tvb(self.at, len) or nil
    self.at = self.at + len
    return range
end
function Reader:number(name, len)
    local range = self:take(len, name)
    self.item = self.tree:add_le(f[name], range)
    return len == 8 and range:le_uint64() or range:le_uint(), range
end
function Reader:known(name, names)
    local value = self:number(name, 1)
    if names[value] == nil then broken(string.format("%s %d is not known", name, value)) end
    return value
end
function Reader:flags(name, len, bits)
    local value, range = self:number(name, len)
    for _, bit in ipairs(bits) do self.item:add_le(f[name .. "." .. bit], range) end
    return value
end
function Reader:raw(name, len)
    local range = self:take(len, name)
    if range then self.tree:add(f[name], range) end
    return range
end
function Reader:text(name, len)
    local range = self:take(len, name)
    local text = range and range:string(ENC_UTF_8) or ""
    if range then self.tree:add(f[name], range, text) else self.tree:add(f[name], "") end
    return text
end
function Reader:short(name, max)
    local len = self:take(2, name):le_uint()
    if len > max then broken(string.format("%s of %d bytes, above %d", name, len, max)) end
    return self:text(name, len)
end
function Reader:time(name)
    local range = self:take(12, name)
    local nanos = range(8, 4):le_uint()
    if nanos >= 1000000000 then broken(name .. " has more than a second of nanoseconds") end
    self.tree:add(f[name], range, NSTime.new(range(0, 8):le_int64():tonumber(), nanos))
end
-- A branch of the tree for `len` bytes, or what is left of them.
function Reader:branch(title, len, show)
    local outer = self.tree
    local shown = math.min(len, self:left())
    if shown > 0 then
        self.tree = outer:add(wormhole, self.tvb(self.at, shown), title)
    end
    local begin, branch = self.at, self.tree
    local result = show(self)
    if shown > 0 then branch:set_len(self.at - begin) end
    self.tree = outer
    return result
end
function Reader:finish()
    if self:left() > 0 then
        self.tree:add(f["garbage"], self.tvb(self.at, self:left()))
        broken(string.format("%d bytes after the last part", self:left()))
    end
end

local function file_id(from)
    from:branch("File", 24, function()
        from:number("fs", 8)
        from:number("inode", 8)
        from:number("birth", 8)
    end)
end
local function version(from)
    return from:branch("Version", 32, function()
        local size = from:number("size", 8)
        from:time("mtime")
        from:time("ctime")
        return size
    end)
end
local function attr(from, title)
    return from:branch(title or "Attr", 100, function()
        file_id(from)
        local kind = from:known("file_kind", FILE_KINDS)
        if kind == 0 then broken("file_kind 0 in attributes") end
        from:flags("attr_flags", 1, { "settled" })
        from:number("permissions", 2)
        for _, name in ipairs({ "links", "uid", "gid", "rdev", "block_bytes" }) do from:number(name, 4) end
        from:number("blocks", 8)
        from:time("atime")
        return string.format("%s, %s bytes", FILE_KINDS[kind], version(from))
    end)
end
local function target(from)
    return from:branch("Target", from:left(), function()
        local share = from:number("share", 2)
        local path = from:short("path", 4096)
        local has = from:number("has_file_id", 1)
        if has == 1 then file_id(from) elseif has ~= 0 then broken("file id flag " .. has) end
        return string.format("%d:/%s", share, path)
    end)
end
local function extent(from)
    local start, len = from:number("start", 8), from:number("length", 4)
    if len > DATA_BYTES_MAX then broken("an extent of " .. len .. " bytes") end
    return string.format("%s+%d", start, len)
end
local function each(from, title, show)
    local count = from:number("count", 2)
    for at = 1, count do
        from:branch(string.format("%s %d", title, at), from:left(), show)
    end
    return count
end
local function leases(from)
    return each(from, "Lease", function() from:number("lease", 8) end) .. " leases"
end

local request_bodies = {
    Hello = function(from)
        from:number("version_min", 2)
        local newest = from:number("version_max", 2)
        from:raw("proof", 32)
        from:branch("Claims", from:left(), function()
            from:raw("ticket", 8)
            from:known("mode", MODES)
            from:number("expiry", 8)
            from:short("prefix", 4096)
            each(from, "Share", function() from:short("share_name", 255) end)
        end)
        return string.format("version %d, %s", newest, from:short("label", 255))
    end,
    Stat = target,
    List = function(from)
        local cookie = from:number("cookie", 8)
        from:number("page_len", 4)
        local lease = from:number("lease", 8)
        return string.format("%s from %s lease %s", target(from), cookie, lease)
    end,
    Readlink = target,
    Read = function(from)
        version(from)
        local range = extent(from)
        return string.format("%s %s", target(from), range)
    end,
    Verify = function(from)
        local of = target(from)
        local count = each(from, "Range", function()
            extent(from)
            from:raw("hash", FINGERPRINT_BYTES[from:known("fingerprint", FINGERPRINTS)])
        end)
        return string.format("%s %d ranges", of, count)
    end,
    Statfs = function(from) return tostring(from:number("share", 2)) end,
    GetXattr = function(from)
        local of = target(from)
        return string.format("%s %s", of, from:short("xattr", 255))
    end,
    ListXattr = target,
    Lease = function(from)
        local lease = from:number("lease", 8)
        return string.format("%s lease %s", target(from), lease)
    end,
    Release = leases,
    ReadFiles = function(from)
        local dir = target(from)
        local count = each(from, "File", function()
            from:short("name", 255)
            file_id(from)
            version(from)
        end)
        return string.format("%s %d files", dir, count)
    end,
}

-- One block of LZ4 (lz4_Block_format.md), of `len` bytes unpacked.
local function unpack_lz4(range, len)
    local packed, out = range:bytes(), ByteArray.new()
    local at, size, done = 0, packed:len(), 0
    out:set_size(len)
    local function byte()
        if at >= size then broken("the LZ4 block ends early") end
        at = at + 1
        return packed:get_index(at - 1)
    end
    local function long(nibble)
        local more = nibble == 15 and 255 or 0
        while more == 255 do
            more = byte()
            nibble = nibble + more
        end
        return nibble
    end
    local function put(value)
        if done >= len then broken("the LZ4 block is longer than it says") end
        out:set_index(done, value)
        done = done + 1
    end
    while at < size do
        local token = byte()
        for _ = 1, long(math.floor(token / 16)) do put(byte()) end
        if at < size then
            local back = byte() + 256 * byte()
            if back == 0 or back > done then broken("the LZ4 block points before its start") end
            for _ = 1, long(token % 16) + 4 do put(out:get_index(done - back)) end
        end
    end
    if done ~= len then broken("the LZ4 block is shorter than it says") end
    return out:tvb("Unpacked listing")
end

local function listing(from)
    attr(from, "Directory")
    from:number("end", 1)
    local grant = from:known("grant", GRANTS)
    local count = each(from, "Entry", function()
        from:number("cookie", 8)
        from:known("file_kind", FILE_KINDS)
        local flags = from:flags("entry_flags", 1, { "attr" })
        from:short("name", 255)
        if flags % 2 == 1 then attr(from) end
    end)
    return string.format("%d entries, lease %s", count, GRANTS[grant])
end

local reply_bodies = {
    Welcome = function(from)
        local agreed = from:number("version", 2)
        local session = from:number("session", 8)
        from:number("boot", 8)
        each(from, "Share", function()
            from:number("share", 2)
            from:short("share_name", 255)
            attr(from, "Root")
        end)
        return string.format("version %d, session %s", agreed, session)
    end,
    Attr = attr,
    Listing = listing,
    Link = function(from) return from:short("link", 4096) end,
    Data = function(from, header)
        version(from)
        return header.data_len .. " bytes"
    end,
    Verified = function(from)
        attr(from)
        return each(from, "Range", function() from:number("equal", 1) end) .. " ranges"
    end,
    Statfs = function(from)
        from:number("block_bytes", 4)
        from:number("name_max", 4)
        for _, name in ipairs({ "blocks", "blocks_free", "blocks_available", "files", "files_free" }) do
            from:number(name, 8)
        end
        return ""
    end,
    Value = function(from)
        local len = from:left()
        from:raw("value", len)
        return len .. " bytes"
    end,
    Leased = function(from)
        attr(from, "Directory")
        return GRANTS[from:known("grant", GRANTS)]
    end,
    Released = function() return "" end,
    Files = function(from, header)
        local sum = 0
        local count = each(from, "File", function()
            from:number("status", 2)
            sum = sum + from:number("length", 4)
        end)
        if sum ~= header.data_len then broken("the files have other lengths than the data") end
        return string.format("%d files, %d bytes", count, sum)
    end,
    PackedListing = function(from)
        local len = from:number("unpacked_len", 4)
        if len > PACKED_BYTES_MAX then broken("a listing of " .. len .. " bytes") end
        if from:left() == 0 then broken("no LZ4 block") end
        local plain = Reader.new(unpack_lz4(from:raw("packed", from:left()), len), 0, len, from.tree)
        local text = listing(plain)
        plain:finish()
        return text
    end,
}

local push_bodies = {
    Changed = function(from)
        local lease = from:number("lease", 8)
        local count = each(from, "Change", function()
            from:flags("what", 1, { "created", "removed", "contents", "attributes" })
            local flags = from:flags("change_flags", 1, { "file_id" })
            from:short("name", 255)
            if flags % 2 == 1 then file_id(from) end
        end)
        return string.format("lease %s, %d names", lease, count)
    end,
    Revoked = leases,
    RevokedAll = function() return "" end,
}

-- A time of a reply's header: 11 bits shifted left by 5.
local function nanoseconds(short)
    return UInt64.new(short % 2048) * UInt64.new(2) ^ UInt64.new(math.floor(short / 2048))
end

local function request_header(from, header)
    header.kind = from:number("request", 1)
    header.class = from:number("class", 1)
    from:flags("flags", 2, { "packed" })
    from:number("body_len", 4)
    from:number("deadline", 4)
    from:raw("reserved", 4)
    from:number("id", 8)
    if REQUESTS[header.kind] == nil then broken("request kind " .. header.kind .. " is not known") end
    if CLASSES[header.class] == nil then broken("class " .. header.class .. " is not known") end
    header.name = REQUESTS[header.kind]
    header.title = string.format("%s (%s)", header.name, CLASSES[header.class])
end

local function reply_header(from, header)
    header.status = from:number("status", 2)
    header.kind = from:number("reply", 1)
    from:number("bound", 1)
    from:number("body_len", 4)
    from:number("data_len", 4)
    for _, name in ipairs({ "waited", "answered" }) do
        local range = from:take(2, name)
        from.tree:add(f[name], range, nanoseconds(range:le_uint()))
    end
    header.name = header.status == 0 and REPLIES[header.kind] or "Error"
    header.title = header.name
    if header.status ~= 0 then
        header.title = "Error: " .. (ERRORS[header.status] or "number " .. header.status)
    elseif header.kind == 0 or REPLIES[header.kind] == nil then
        broken("reply kind " .. header.kind .. " is not known")
    elseif header.data_len > 0 and header.name ~= "Data" and header.name ~= "Files" then
        broken("a " .. header.name .. " with data")
    end
end

local function push_header(from, header)
    header.kind = from:number("push", 1)
    from:raw("reserved", 3)
    from:number("body_len", 4)
    if PUSHES[header.kind] == nil then broken("push kind " .. header.kind .. " is not known") end
    header.name = PUSHES[header.kind]
    header.title = header.name
end

local function error_body(from)
    return from:text("error", from:left())
end

-- What stands in front of each kind of message: its bytes, where the body's length is, its bound, and who shows it.
local REQUEST = { title = "Request", head = 24, len_at = 4, max = REQUEST_BYTES_MAX, show = request_header,
    bodies = request_bodies }
local REPLY = { title = "Reply", head = 16, len_at = 4, max = REPLY_BYTES_MAX, show = reply_header, bodies = reply_bodies,
    data_at = 8 }
local PUSH = { title = "Push", head = 8, len_at = 4, max = PUSH_BYTES_MAX, show = push_header, bodies = push_bodies }

local function since(stream, pinfo)
    local seconds = tonumber(pinfo.abs_ts) - stream.asked
    local whole = math.floor(seconds)
    return NSTime.new(whole, math.floor((seconds - whole) * 1e9 + 0.5))
end

-- Joins a reply with its request, which is in another frame.
local function match(tree, pinfo, form, header, stream)
    if form == REQUEST then
        stream.kind, stream.asked, stream.asked_in = header.kind, tonumber(pinfo.abs_ts), pinfo.number
        if stream.answered_in then tree:add(f.reply_in, stream.answered_in):set_generated() end
    elseif form == REPLY and stream.asked_in then
        stream.answered_in = pinfo.number
        local item = tree:add(f.request, stream.kind)
        item:set_generated()
        item:append_text(" (of the request)")
        tree:add(f.request_in, stream.asked_in):set_generated()
        tree:add(f.time, since(stream, pinfo)):set_generated()
    end
end

-- Shows one message, header and body.
local function show(tvb, pinfo, root, form, stream)
    local tree = root:add(wormhole, tvb())
    tree:add(f.stream, UInt64.new(stream.id)):set_generated()
    local header = { body_len = tvb(form.len_at, 4):le_uint(), data_len = 0, name = "?", title = "malformed " .. form.title }
    if form.data_at then header.data_len = tvb(form.data_at, 4):le_uint() end
    local done, fault = pcall(function()
        form.show(Reader.new(tvb, 0, form.head, tree), header)
        local body = Reader.new(tvb, form.head, header.body_len, tree)
        local text = (header.name == "Error" and error_body or form.bodies[header.name])(body, header)
        body:finish()
        header.title = header.title .. (text ~= "" and " " .. text or "")
    end)
    match(tree, pinfo, form, header, stream)
    tree:append_text(string.format(", %s: %s", form.title, header.title))
    pinfo.cols.info:append(" | " .. header.title)
    if not done then
        if getmetatable(fault) ~= Broken then error(fault, 0) end
        tree:add_proto_expert_info(malformed, "Against the protocol: " .. fault.what)
    elseif header.status and header.status ~= 0 then
        tree:add_proto_expert_info(refused, header.title)
    end
end

local function show_data(range, pinfo, root, stream, is_last)
    local tree = root:add(wormhole, range)
    tree:append_text(string.format(", Data: %d bytes of a reply%s", range:len(), is_last and ", the last" or ""))
    tree:add(f.stream, UInt64.new(stream.id)):set_generated()
    tree:add(f.data, range)
    if stream.asked_in then
        tree:add(f.request_in, stream.asked_in):set_generated()
        if is_last then tree:add(f.whole_time, since(stream, pinfo)):set_generated() end
    end
end

local function garbage(range, root, what)
    local tree = root:add(wormhole, range, "Wormhole, malformed")
    tree:add(f.garbage, range)
    tree:add_proto_expert_info(malformed, "Against the protocol: " .. what)
end

local function number_at(bytes, at)
    return bytes:get_index(at) + 256 * (bytes:get_index(at + 1) + 256 * (bytes:get_index(at + 2) + 256 * bytes:get_index(at + 3)))
end

-- What the next bytes of one way of a stream are, in order: parts of a message, messages, data, or nothing that is known.
-- Each act is for `len` bytes from `at`; a message has its own bytes, since it may have begun frames before.
local function plan(way, form, bytes, acts)
    local at, size, parted = 0, bytes:len(), false
    local function act(kind, len, more)
        more = more or {}
        more.kind, more.at, more.len = kind, at, len
        acts[#acts + 1] = more
        at = at + len
    end
    local function fail(what)
        way.broken = what
        act("garbage", size - at, { what = what })
    end
    while at < size do
        if way.broken then return act("garbage", size - at, { what = way.broken }) end
        if way.data_left > 0 then
            local len = math.min(way.data_left, size - at)
            way.data_left = way.data_left - len
            act("data", len, { is_last = way.data_left == 0 })
        elseif way.is_done then
            return fail("bytes after the message")
        else
            -- The header, then what it says.
            local begun = way.begun or ByteArray.new()
            local wanted = form.head
            if begun:len() >= form.head then wanted = form.head + number_at(begun, form.len_at) end
            local len = math.min(wanted - begun:len(), size - at)
            if len > 0 then begun = begun .. bytes:subset(at, len) end
            local body = begun:len() >= form.head and number_at(begun, form.len_at)
            local data = body and form.data_at and number_at(begun, form.data_at) or 0
            if body and body > form.max then return fail("a body of " .. body .. " bytes") end
            if data > DATA_BYTES_MAX then return fail("data of " .. data .. " bytes") end
            way.begun = begun
            if body and begun:len() == form.head + body then
                way.begun, way.data_left, way.is_done = nil, data, form ~= PUSH
                -- Its header came in the same frame: one act for both.
                local before = acts[#acts]
                if parted and before.kind == "part" then
                    acts[#acts] = nil
                    at, len = before.at, len + before.len
                end
                act("message", len, { bytes = begun })
            else
                act("part", len)
                parted = true
            end
        end
    end
end

-- The value of a field of the STREAM frame whose bytes these are: the last that was added.
local function last(read)
    local values = { read() }
    return values[#values]
end

-- The stream of these bytes, the form of the messages on it in this direction, and where in the stream they are.
local function place(pinfo)
    local number, id_field, offset_field = last(connection), last(stream_id), last(stream_offset)
    number = number and number.value or 0
    local id, offset = tonumber(tostring(id_field.value)), 0
    -- A frame without an offset begins the stream; the field is then that of another frame.
    if offset_field and offset_field.offset == id_field.offset + id_field.len then
        offset = tonumber(tostring(offset_field.value))
    end
    local key = string.format("%s/%d", number, id)
    local stream = streams[key]
    if stream == nil then
        stream = { id = id, ways = {} }
        streams[key] = stream
    end
    local peer = string.format("%s:%d", pinfo.dst, pinfo.dst_port)
    -- The first to speak on a mount's stream is the mount.
    if hosts[number] == nil and id % 4 == 0 then hosts[number] = peer end
    if id % 4 == 3 then return stream, PUSH, offset end
    if id % 4 ~= 0 then return stream, nil, offset end
    return stream, hosts[number] == peer and REQUEST or REPLY, offset
end

-- The acts of a STREAM frame, found when it is first seen: frames come in any order, and again.
local function acts_of(way, form, bytes, offset, has_ended)
    local acts = {}
    if has_ended then way.size = offset + bytes:len() end
    if offset > way.next then
        if way.early_count < EARLY_MAX then
            way.early[offset], way.early_count = bytes, way.early_count + 1
        end
        return { { kind = "early", at = 0, len = bytes:len() } }
    end
    local again = math.min(way.next - offset, bytes:len())
    if again > 0 then acts[1] = { kind = "again", at = 0, len = again } end
    while bytes and again < bytes:len() do
        local fresh, begin = again > 0 and bytes:subset(again, bytes:len() - again) or bytes, #acts
        plan(way, form, fresh, acts)
        for at = begin + 1, #acts do
            local one = acts[at]
            one.at = one.at + again
            -- What came early is not in this frame's bytes.
            if way.held then one.held = bytes end
        end
        way.next = way.next + fresh:len()
        bytes, again = way.early[way.next], 0
        way.early[way.next], way.held = nil, true
    end
    way.held = nil
    if way.size == way.next and (way.begun or way.data_left > 0) and not way.broken then
        way.broken = "the stream ends within a message"
        acts[#acts + 1] = { kind = "cut" }
    end
    return acts
end

function wormhole.dissector(tvb, pinfo, root)
    local stream, form, offset = place(pinfo)
    pinfo.cols.protocol = "Wormhole"
    if form == nil then
        if tvb:len() > 0 then garbage(tvb(), root, "a stream that no version has") end
        return tvb:len()
    end
    local way = stream.ways[form]
    if way == nil then
        way = { next = 0, data_left = 0, early = {}, early_count = 0, frames = {} }
        stream.ways[form] = way
    end
    local key = string.format("%d/%d", pinfo.number, offset)
    if way.frames[key] == nil then
        local bytes = tvb:len() > 0 and tvb():bytes() or ByteArray.new()
        way.frames[key] = acts_of(way, form, bytes, offset, last(stream_fin).value)
    end
    for _, act in ipairs(way.frames[key]) do
        local from = act.held and act.held:tvb("Held back") or tvb
        if act.kind == "message" then
            local whole = act.len == act.bytes:len() and from(act.at, act.len):tvb() or act.bytes:tvb("Gathered message")
            show(whole, pinfo, root, form, stream)
        elseif act.kind == "data" then
            show_data(from(act.at, act.len), pinfo, root, stream, act.is_last)
        elseif act.kind == "garbage" then
            garbage(from(act.at, act.len), root, act.what)
        elseif act.kind == "cut" then
            local tree = root:add(wormhole, tvb(), "Wormhole, malformed")
            tree:add_proto_expert_info(malformed, "Against the protocol: " .. way.broken)
        else
            local what = ({ part = "part of a message", early = "before its turn", again = "sent again" })[act.kind]
            root:add(wormhole, from(act.at, act.len), string.format("Wormhole, %s: %d bytes", what, act.len))
        end
    end
    return tvb:len()
end

DissectorTable.get("quic.proto"):add(ALPN, wormhole)
