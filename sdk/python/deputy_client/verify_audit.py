"""Verifies an export of Deputy's audit log with nothing but docs/audit-format.md: the standard library and `cryptography`.

    deputy audit export | python -m deputy_client.verify_audit
    python -m deputy_client.verify_audit audit.jsonl --heads keys/audit-heads/local.json --key KID

Exit code 0 when every chain holds, 1 when one does not, 2 when the export cannot be read.
"""

import argparse
import base64
import hashlib
import json
import sys
from typing import Any, BinaryIO, Dict, List, Optional, Tuple

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils
except ImportError:
    sys.exit("Install the package cryptography: pip install 'deputy-client[audit]'")

EARLIER_GENESIS = hashlib.sha256(b"deputy audit genesis").hexdigest()
# {"hash":"<64 digits>","record":<text>}
TEXT = len('{"hash":"') + 64 + len('","record":')


# The first and the last number, the hash before and the hash of the last.
Range = Tuple[int, int, str, str]


class Broken(Exception):
    """The chain does not hold, from this record on."""


def lines(*values: Any) -> bytes:
    return "".join(f"{value}\n" for value in values).encode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def thumbprint(jwk: Dict[str, str]) -> str:
    """RFC 7638."""
    text = json.dumps({name: jwk[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Keys:
    """The public keys of an export: each is known by its own digest, so that none can stand under another's name."""

    def __init__(self, jwks: List[Dict[str, str]], trusted: Optional[List[str]]) -> None:
        self.keys = {}
        for jwk in jwks:
            kid = thumbprint(jwk)
            if trusted is None or kid in trusted:
                x, y = (int.from_bytes(decoded(jwk[name]), "big") for name in ("x", "y"))
                self.keys[kid] = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()

    def check(self, kid: str, signature: str, message: bytes, what: str) -> None:
        raw = decoded(signature)
        if kid not in self.keys or len(raw) != 64:
            raise Broken(f"{what} is signed by the key {kid}, which is not known")
        der = utils.encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            self.keys[kid].verify(der, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Broken(f"the signature of {what} is wrong") from None


class Chain:
    """A walk along the chain of one node."""

    def __init__(self, installation: str, node: str, keys: Keys, heads: List[Dict[str, Any]]) -> None:
        self.installation, self.node, self.keys = installation, node, keys
        # Two heads of one record may differ: then one of them is of a chain that was written anew.
        self.heads = sorted((head for head in heads if head["node"] == node), key=lambda head: head["seq"])
        for head in self.heads:
            if head["installation"] != installation:
                raise Broken(f"a known head of the node {node} is of another installation")
        self.signed_up_to = max((head["number"] for head in self.heads), default=0)
        self.seq = self.checkpoints = self.segment = self.signed = 0
        self.open = self.earlier = False
        self.head = hashlib.sha256(lines("deputy audit genesis", 1, installation, node)).hexdigest()
        self.number: Optional[int] = None
        self.counted = True
        self.gone: List[Range] = []
        self.claims: Dict[Range, int] = {}

    def begin(self, header: Dict[str, Any]) -> None:
        if self.open:
            raise Broken(f"segment {self.segment} has no footer")
        if header["number"] != self.segment + 1:
            raise Broken(f"segment {self.segment + 1} is missing")
        begins = self.seq == 0 and header["after"] == EARLIER_GENESIS
        if header["first"] != self.seq + 1 or not (header["after"] == self.head or begins):
            raise Broken(f"segment {header['number']} does not follow what comes before it")
        self.segment, self.head, self.open = header["number"], header["after"], True
        self.earlier = self.earlier or begins

    def record(self, line: bytes) -> None:
        text = line[TEXT:-1]
        if not text.startswith(b'{"seq":%d,"prev":"%s",' % (self.seq + 1, self.head.encode())):
            found = json.loads(text)
            if found["seq"] <= self.seq + 1:
                raise Broken(f"record {found['seq']} does not follow record {self.seq}: one was altered, moved or removed")
            self.skip((self.seq + 1, found["seq"] - 1, self.head, found["prev"]))
        digest = hashlib.sha256(text).hexdigest()
        if digest.encode() != line[9:73]:
            raise Broken(f"the text of record {self.seq + 1} does not have its hash: it was altered")
        self.seq, self.head = self.seq + 1, digest
        if b'"event":"store.lost"' in text or b'"event":"audit.prune"' in text:
            told = json.loads(text)
            if told["event"] in ("store.lost", "audit.prune"):
                self.claim(told["detail"])
        self.compare()

    def claim(self, detail: Dict[str, Any]) -> None:
        lost = (detail.get("records") or {}).get("gone")
        for one in [*([lost] if lost else []), *(detail.get("removed") or {}).get("ranges", [])]:
            self.claims[(one["from"], one["to"], one["after"], one["before"])] = self.seq

    def skip(self, gone: Range) -> None:
        """Goes on behind records that are not there; at the end a record has to say why."""
        self.gone.append(gone)
        self.heads = [head for head in self.heads if head["seq"] >= gone[1]]
        self.seq, self.head, self.counted = gone[1], gone[3], False
        self.compare()

    def compare(self) -> None:
        while self.heads and self.heads[0]["seq"] <= self.seq:
            if self.heads.pop(0)["hash"] != self.head:
                raise Broken(f"a known head has another record {self.seq}: the end was written anew")

    def checkpoint(self, point: Dict[str, Any]) -> None:
        what = f"the checkpoint of record {point['seq']}"
        if point["number"] is None:
            earlier = ["deputy audit checkpoint", point["seq"], point["hash"], point["at"]]
            message = json.dumps(earlier, separators=(",", ":")).encode()
        else:
            message = lines("deputy audit checkpoint", 1, self.installation, self.node,
                            point["number"], point["seq"], point["hash"], point["at"])
        self.keys.check(point["kid"], point["signature"], message, what)
        if (point["seq"], point["hash"]) != (self.seq, self.head):
            raise Broken(f"{what} does not stand behind the record that it signed")
        if self.counted and point["number"] != (self.number or 0) + 1 and (self.number or point["number"]):
            raise Broken(f"a checkpoint before that of record {point['seq']} is missing")
        self.number, self.counted, self.signed = point["number"], True, self.seq
        self.checkpoints += 1

    def footer(self, foot: Dict[str, Any], before: int, digest: str) -> None:
        names = ("installation", "node", "number", "first", "after", "at",
                 "last", "head", "from", "to", "bytes", "digest", "sealed")
        message = lines("deputy audit segment", 1, *(foot[name] for name in names))
        self.keys.check(foot["kid"], foot["signature"], message, f"the footer of segment {foot['number']}")
        if before == 0:
            self.begin(foot)
            self.skip((foot["first"], foot["last"], foot["after"], foot["head"]))
        elif (foot["number"], foot["last"], foot["head"]) != (self.segment, self.seq, self.head):
            raise Broken(f"the footer of segment {foot['number']} was signed for other records")
        elif (foot["bytes"], foot["digest"]) != (before, digest):
            raise Broken(f"segment {foot['number']} is not what its footer signed")
        self.open = False

    def explained(self, gone: Range) -> Optional[int]:
        """The record that says why, or the last of those that together do: a copy in tables has no footers."""
        if gone in self.claims:
            return self.claims[gone]
        starts = {claim[0]: claim for claim in self.claims}
        first, last, after, before = gone
        record = 0
        while first <= last:
            claim = starts.get(first)
            if claim is None or (first > 1 and claim[2] != after):
                return None
            record, first, after = max(record, self.claims[claim]), claim[1] + 1, claim[3]
        return record if (first, after) == (last + 1, before) else None

    def finish(self) -> None:
        for gone in self.gone:
            # What no checkpoint covers could be written without a key.
            record = self.explained(gone)
            if record is None or record > self.signed:
                raise Broken(f"records {gone[0]} to {gone[1]} are missing, and no signed record says why")
        for head in self.heads:
            raise Broken(f"the chain ends at record {self.seq}, and a known head has record {head['seq']}: the end was cut off")
        if self.counted and (self.number or 0) < self.signed_up_to:
            raise Broken(f"the checkpoints end with number {self.number or 0}, and a known head has number {self.signed_up_to}")
        if self.earlier and self.checkpoints == 0:
            raise Broken("no checkpoint signs any of its records, and its beginning is of no installation")


def verify(source: BinaryIO, heads: List[Dict[str, Any]], trusted: Optional[List[str]]) -> List[Chain]:
    """@raises Broken for a chain that does not hold, ValueError for what is no export"""
    first = json.loads(source.readline())["export"]
    keys = Keys(first["keys"], trusted)
    chains: Dict[str, Chain] = {}
    chain: Optional[Chain] = None
    digest, before, ended, sealed = hashlib.sha256(), 0, False, True
    for line in source:
        if not line.endswith(b"\n") or ended:
            raise ValueError("the export is cut off, or goes on behind its end")
        text = line[:-1]
        try:
            if text.startswith(b'{"hash":'):
                if chain is None or sealed:
                    raise Broken("a record stands outside of a segment")
                chain.record(text)
            else:
                (kind, content), = json.loads(text).items()
                if kind == "segment" or (kind == "footer" and sealed):
                    if content["installation"] != first["installation"]:
                        raise Broken("a segment is of another installation")
                    node = content["node"]
                    chain = chains.setdefault(node, Chain(first["installation"], node, keys, heads))
                    digest, before, sealed = hashlib.sha256(), 0, False
                if kind == "segment":
                    chain.begin(content)
                elif kind == "checkpoint" and chain is not None:
                    chain.checkpoint(content)
                elif kind == "footer" and chain is not None:
                    chain.footer(content, before, digest.hexdigest())
                    sealed = True
                elif kind == "end":
                    ended = content["chains"] == len(first["chains"])
                else:
                    raise Broken(f"a line of the kind {kind} stands where none may be")
        except Broken as problem:
            raise Broken(f"node {chain.node if chain else '-'}: {problem}") from None
        digest.update(line)
        before += len(line)
    if not ended:
        raise ValueError("the export is cut off: its last line is missing")
    for node in {*first["chains"], *(head["node"] for head in heads)} - set(chains):
        raise Broken(f"node {node}: its chain is not there")
    for one in chains.values():
        try:
            one.finish()
        except Broken as problem:
            raise Broken(f"node {one.node}: {problem}") from None
    return list(chains.values())


def main() -> int:
    parser = argparse.ArgumentParser(description="Verify an export of Deputy's audit log.")
    parser.add_argument("export", nargs="?", help="file of `deputy audit export`; default: standard input")
    parser.add_argument("--heads", action="append", default=[], help="a file of keys/audit-heads, kept outside of the store; may be repeated")
    parser.add_argument("--key", action="append", help="trust only this key id; repeat it for every key that signed checkpoints of the export")
    options = parser.parse_args()
    heads: List[Dict[str, Any]] = []
    try:
        for path in options.heads:
            with open(path, encoding="utf-8") as file:
                kept = json.load(file)
                heads += [*kept["heads"], *kept["missing"]]
        with open(options.export, "rb") if options.export else sys.stdin.buffer as source:
            chains = verify(source, heads, options.key)
    except Broken as problem:
        print(f"BROKEN: {problem}")
        return 1
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        print(f"This cannot be verified: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    for chain in chains:
        print(f"{chain.node}: {chain.seq} records, {chain.checkpoints} signed checkpoints, head {chain.head[:16]}")
        if chain.seq > chain.signed:
            print(f"  no checkpoint signs records {chain.signed + 1} to {chain.seq} yet: who holds the store could have written these")
        for gone in chain.gone:
            print(f"  records {gone[0]} to {gone[1]} are gone: record {chain.explained(gone)} says why; `deputy audit verify` checks its proof")
    kids = sorted({kid for chain in chains for kid in chain.keys.keys})
    print(f"The chains hold, by the keys {' '.join(kids)}." + ("" if options.key else " Compare these with what you know: the export brought them."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
