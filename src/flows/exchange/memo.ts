import { hash } from 'node:crypto'
import type { Clock } from '#clock'
import type { CurrentSnapshot, Snapshot } from '#config'
import { kinds } from '#credentials/connector'
import { createLru } from '#foundation/lru'
import type { Policy } from '#identity/policy'
import type { VerifiedSubject } from '#identity/subject'
import type { RevocationIndex } from '#identity/validity'
import type { ExecSessions, PeerProcess } from '#identity/workload'
import type { Authorized, Beneficiary, Caller, ExchangeContext, Noted, Proved } from './context.ts'
import type { Obtained, Recall } from './obtain.ts'
import type { TokenRequest } from './request.ts'

/**
 * The first three steps of an exchange (who calls, for whom, for what) are a function of their inputs. Of a request
 * that comes again with the same inputs what they proved is looked up. The credential, the record, and the check after
 * the record are those of every request.
 *
 * The inputs, and where each of them is held (docs/decisions/0029-memo.md):
 * - the form, and every fact of the kernel about the calling process: the key, as a digest;
 * - the files, policies, revocations, disabled users and frozen tenants: by identity or number, else all entries are
 * dropped;
 * - the end of the subject token, and the end of the time for which its signature is not checked anew: `until`;
 * - exec sessions of the calling process: an entry is neither made nor found while there is one;
 * - what is used once or counted, and what policy reads off the clock: such requests have no entry.
 */

/** The longest form that is remembered (bytes). */
const MAX_FORM_BYTES = 8192
/** All entries together, about (bytes). */
const MAX_BYTES = 16 * 1_048_576
/** What an entry takes besides what its form says, about (bytes). */
const ENTRY_BYTES = 2048

/** What the first three steps proved of a request. */
export interface Remembered {
  readonly caller: Caller
  /** Without the subject token. */
  readonly beneficiary: Beneficiary
  readonly authorized: Authorized
  /** What the record says of these steps. */
  readonly noted: Noted
  /** Without tokens. */
  readonly wish: TokenRequest
}

interface Entry extends Remembered {
  /** From then on it does not count (ms since the epoch). */
  readonly until: number
  /** Under which the credential is cached; undefined: it is obtained as ever. */
  readonly credentialKey: string | undefined
  readonly bytes: number
}

/** The files, policies and revocations of a moment. */
export interface Moment {
  readonly snapshot: Snapshot
  readonly policy: Policy
  readonly revocations: number
}

interface MemoOptions {
  readonly snapshot: CurrentSnapshot
  readonly policy: () => Policy
  readonly revocationIndex: Pick<RevocationIndex, 'version'>
  readonly exec: Pick<ExecSessions, 'of'>
  readonly recall: Recall
  /**
   * Until when a verified token counts without being verified anew (ms since the epoch); undefined: it is verified each
   * time.
   */
  readonly countsUntil: (subject: VerifiedSubject) => number | undefined
  readonly clock: Clock
}

const peerTexts = new WeakMap<PeerProcess, string>()

/** All that the kernel says of a process, as text: it is one object for all requests of a connection. */
const textOfPeer = (peer: PeerProcess): string => {
  let text = peerTexts.get(peer)
  if (text === undefined) {
    const { pid, uid, gid, startedAt, exe, sha256 } = peer
    text = JSON.stringify([pid, uid, gid, startedAt ?? null, exe ?? null, sha256 ?? null])
    peerTexts.set(peer, text)
  }
  return text
}

/** A form and the process that sent it. */
export interface RepeatableRequest {
  readonly peer: PeerProcess
  readonly key: string
  /** Bytes of the form. */
  readonly size: number
}

/**
 * The name of a request that may come again; undefined where the form is long, or the kernel does not say who calls.
 * @param form as it came. Nothing else of the request may say who calls or for what: no Authorization, no DPoP header
 */
export const repeatable = (peer: PeerProcess | undefined, form: Uint8Array): RepeatableRequest | undefined =>
  peer === undefined || form.length > MAX_FORM_BYTES
    ? undefined
    : { peer, key: `${hash('sha256', form, 'base64')} ${textOfPeer(peer)}`, size: form.length }

/** A copy that shares no memory with the form: a part of a text keeps the whole text, and the token in it. */
const copied = <T extends object>(value: T): T => JSON.parse(JSON.stringify(value)) as T

const isCounted = ({ settings: { rates } }: Snapshot): boolean =>
  rates.server !== null ||
  rates.tenant !== null ||
  rates.user !== null ||
  rates.downstream !== null ||
  rates.client !== null

/** Whether a request has no input but those that an entry is found and dropped by. */
const isSimple = ({ wish }: ExchangeContext, { workload, proved }: Caller): boolean =>
  workload.method === 'unix' &&
  workload.session === undefined &&
  proved === undefined &&
  wish.proof === undefined &&
  wish.rejected === undefined &&
  wish.injection === undefined &&
  wish.call === undefined &&
  !('actorToken' in wish)

/** The part of a request that the record and the answer need, without its tokens. */
const withoutTokens = ({ audiences, resources, scopes, requestedTokenType, tool }: TokenRequest): TokenRequest =>
  copied({
    audiences,
    resources,
    ...(scopes === undefined ? {} : { scopes }),
    ...(requestedTokenType === undefined ? {} : { requestedTokenType }),
    ...(tool === undefined ? {} : { tool }),
  })

export class Memo {
  readonly #options: MemoOptions
  readonly #entries = createLru<string, Entry>({ max: MAX_BYTES, weigh: ({ bytes }) => bytes })
  #era: Moment | undefined

  constructor(options: MemoOptions) {
    this.#options = options
  }

  /** Entries that are kept. */
  get size(): number {
    return this.#entries.size
  }

  /** The moment at which a request begins, for `keep`. */
  now(): Moment {
    const { snapshot, policy, revocationIndex } = this.#options
    const [files, policies, revocations] = [snapshot(), policy(), revocationIndex.version]
    const era = this.#era
    if (era?.snapshot === files && era.policy === policies && era.revocations === revocations) return era
    this.#entries.clear()
    return (this.#era = { snapshot: files, policy: policies, revocations })
  }

  /**
   * What was proved of the same request before, while all of its inputs are the same.
   * @returns with `obtained` where the credential is in the cache as well; without, it is to be obtained
   */
  find({ key, peer }: RepeatableRequest): (Remembered & { readonly obtained?: Obtained }) | undefined {
    const { clock, exec, recall } = this.#options
    this.now()
    const entry = this.#entries.get(key)
    if (entry === undefined || exec.of(peer).length > 0) return undefined
    if (entry.until <= clock.now()) {
      this.#entries.delete(key)
      return undefined
    }
    if (entry.credentialKey === undefined) return entry
    // The token in the form is needed to obtain another one.
    const obtained = recall.find(entry.credentialKey)
    return obtained === undefined ? undefined : { ...entry, obtained }
  }

  /**
   * Remembers what was proved of a request that was answered.
   * @param began what `now` returned before its first step
   */
  keep({ key, size }: RepeatableRequest, began: Moment, proved: Proved, noted: Noted): void {
    const { context, caller, beneficiary, authorized, obtained } = proved
    const { subject, subjectToken, ...named } = beneficiary
    const era = this.now()
    const { workload, target, decision } = noted
    if (subject === undefined || workload === undefined || target === undefined || decision === undefined) return
    const until = this.#options.countsUntil(subject)
    // Only what the cache answers is asked for so often that it matters.
    if (until === undefined || era !== began || !obtained.cached || !isSimple(context, caller)) return
    if (isCounted(era.snapshot) || era.policy.readsTime) return
    const { credentialKey } = obtained
    if (credentialKey === undefined && kinds[authorized.target.kind].fromSubjectToken) return
    const decided = { ...decision, scopes: copied(decision.scopes) }
    this.#entries.set(key, {
      caller,
      beneficiary: { ...named, subject },
      authorized: { ...authorized, scopes: copied(authorized.scopes) },
      noted: { workload, subject, target, injection: undefined, decision: decided },
      wish: withoutTokens(context.wish),
      until,
      credentialKey,
      bytes: ENTRY_BYTES + 2 * size,
    })
  }
}
