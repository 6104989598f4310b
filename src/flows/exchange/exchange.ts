import { Secret } from '#foundation/crypto'
import { toRecord } from './record.ts'
import { authenticate } from './authenticate.ts'
import { authorizeRequest } from './authorize-request.ts'
import type { Beneficiary, Caller, ExchangeContext, ExchangeDependencies, Note, Noted, Proved } from './context.ts'
import { assertProvedValid, issueConnection, issueToken, type IssuedToken, type OpenedConnection } from './issue.ts'
import type { Memo, Moment, RepeatableRequest } from './memo.ts'
import { obtainCredential } from './obtain-credential.ts'
import {
  LOGIN_SESSION_TOKEN,
  LOGIN_SESSION_TOKEN_TYPE,
  type RequestOrigin,
  type TokenExchangeRequest,
  type TokenRequest,
} from './request.ts'
import { actForItself, verifySubject } from './verify-subject.ts'
import { withAudit } from './with-audit.ts'

/** Token exchange for a user, client credentials for a server itself, and connections for either. */
export interface Exchange {
  /**
   * @param form set where the request is nothing but this form of this process: it may come again, and is remembered
   */
  exchange(origin: RequestOrigin, request: TokenExchangeRequest, form?: RepeatableRequest): Promise<IssuedToken>
  /**
   * As `exchange`, for a request that is the same as one that was answered before, and whose inputs are all the same.
   * @returns undefined where it has to be read and proved
   */
  repeat(origin: RequestOrigin, form: RepeatableRequest): Promise<IssuedToken> | undefined
  clientCredentials(origin: RequestOrigin, request: TokenRequest): Promise<IssuedToken>
  /**
   * The credential for a connection through one of Deputy's own sockets, which the caller never sees: for the user of its exec
   * session, or of the Unix user's login session where the server may act on it, else for the server itself.
   * @param rejected what was obtained for the same connection before, where its server refused it
   */
  connection(origin: RequestOrigin, downstream: string, rejected?: Secret): Promise<OpenedConnection>
}

/** Who it is for, once it is known who calls. */
type ForWhom = (caller: Caller, note: Note) => Promise<Beneficiary>

/** All that is proved of a request, step by step. */
type Prove = (note: Note) => Promise<Omit<Proved, 'context'>>

const stepByStep =
  (deps: ExchangeDependencies, context: ExchangeContext, forWhom: ForWhom): Prove =>
  async (note) => {
    const caller = await authenticate(deps, context, note)
    const beneficiary = await forWhom(caller, note)
    const authorized = await authorizeRequest(deps, { context, caller, beneficiary }, note)
    const obtained = await obtainCredential(deps, { context, caller, beneficiary, authorized }, note)
    return { caller, beneficiary, authorized, obtained }
  }

/** What the first three steps proved before, and the credential. It is noted and counted as if they had run. */
const fromMemo =
  (deps: ExchangeDependencies, context: ExchangeContext, known: NonNullable<ReturnType<Memo['find']>>): Prove =>
  async (note) => {
    const { caller, beneficiary, authorized, noted, obtained } = known
    const { telemetry } = deps
    note(noted)
    telemetry.attestation({ method: caller.workload.method, outcome: 'verified' })
    telemetry.subject({ how: beneficiary.subject!.how, outcome: 'verified' })
    telemetry.decision({ allowed: true, credential: authorized.target.kind })
    const allowed = { caller, beneficiary, authorized }
    if (obtained === undefined)
      return { ...allowed, obtained: await obtainCredential(deps, { context, ...allowed }, note) }
    note({ credential: obtained.credential, cached: true })
    telemetry.cache({ outcome: 'hit' })
    return { ...allowed, obtained }
  }

/**
 * The line of an exchange. Every token and every connection comes out of these steps, in this order; each takes what the ones
 * before have proved. The outcome is recorded before it leaves, and so is a refusal.
 */
const runLine = (
  deps: ExchangeDependencies,
  context: ExchangeContext,
  prove: Prove,
  noted: Noted = {},
): Promise<Proved> => {
  // A node without a lease knows that at once. Its refusal is not recorded: the store is away in nearly all such cases, and would be waited for.
  deps.membership.assertHeld()
  const note: Note = (found) => {
    Object.assign(noted, found)
  }
  return withAudit(deps, {
    steps: async () => ({ context, ...(await prove(note)) }),
    issued: () => toRecord(context, noted, deps.clock.now()),
    refused: (error) => toRecord(context, noted, deps.clock.now(), error),
    assertValid: (proved) => {
      assertProvedValid(deps, proved)
    },
    ended: (error) => {
      const tenant = noted.subject?.tenant.tenant ?? noted.tenant
      deps.telemetry.exchange({
        ...(error === undefined ? { outcome: 'issued' } : { outcome: 'refused', error: error.code }),
        ...(noted.target === undefined ? {} : { credential: noted.target.kind }),
        ...(tenant === undefined ? {} : { tenant }),
        seconds: (deps.clock.now() - context.startedAt) / 1000,
      })
    },
  })
}

/** Whether a connection is for the user of a session; a downstream that the server uses for itself alone is not. */
const isForUser = ({ workload: { server, session } }: Caller, downstream: string): boolean => {
  const isOwn = Object.hasOwn(server.service_downstreams, downstream) && !Object.hasOwn(server.downstreams, downstream)
  return session === undefined ? server.login_session && !isOwn : session.user !== undefined
}

export const createExchange = (given: ExchangeDependencies): Exchange => {
  const { audit, telemetry, memo } = given
  const deps: ExchangeDependencies = {
    ...given,
    audit: { append: (record) => telemetry.span('deputy.audit', {}, () => audit.append(record)) },
  }
  const begin = (origin: RequestOrigin, event: ExchangeContext['event'], wish: TokenRequest): ExchangeContext => ({
    origin,
    event,
    startedAt: deps.clock.now(),
    generation: deps.snapshot().generation,
    wish,
  })
  return {
    async exchange(origin, request, form) {
      const context = begin(origin, 'token.exchange', request)
      const forUser: ForWhom = (caller, note) => verifySubject(deps, context, caller, { request, note })
      const [moment, noted]: [Moment | undefined, Noted] = [form === undefined ? undefined : memo?.now(), {}]
      const proved = await runLine(deps, context, stepByStep(deps, context, forUser), noted)
      if (form !== undefined && moment !== undefined) memo?.keep(form, moment, proved, noted)
      return issueToken(deps, proved)
    },

    repeat(origin, form) {
      const known = memo?.find(form)
      if (known === undefined) return undefined
      const context = begin(origin, 'token.exchange', known.wish)
      return runLine(deps, context, fromMemo(deps, context, known)).then((proved) => issueToken(deps, proved))
    },

    async clientCredentials(origin, request) {
      const context = begin(origin, 'token.client_credentials', request)
      const forServer: ForWhom = (caller, note) => actForItself(deps, caller, note)
      return issueToken(deps, await runLine(deps, context, stepByStep(deps, context, forServer)))
    },

    async connection(origin, downstream, rejected) {
      const wish = { audiences: [downstream], resources: [], ...(rejected === undefined ? {} : { rejected }) }
      const session = { subjectToken: new Secret(LOGIN_SESSION_TOKEN), subjectTokenType: LOGIN_SESSION_TOKEN_TYPE }
      const holder = `connection ${origin.correlationId}`
      const context = { ...begin(origin, 'connection.open', wish), holder }
      const forEither: ForWhom = (caller, note) =>
        isForUser(caller, downstream)
          ? verifySubject(deps, context, caller, { request: { ...wish, ...session }, note })
          : actForItself(deps, caller, note)
      return issueConnection(await runLine(deps, context, stepByStep(deps, context, forEither)), holder)
    },
  }
}
