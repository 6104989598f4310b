import type { Clock } from '#clock'
import { type DownstreamOf, engineQuestionOf } from '#config'
import { type DynamicSecrets, type IssuedTokens, type LeasedSecrets, type Leases, present } from '#credentials/secret'
import { refuse } from '#errors'
import type { Secret } from '#foundation/crypto'
import { ACCESS_TOKEN_TYPE, SECRET_TOKEN_TYPE } from '#oauth'
import { keysSchema, processCredentialOf, sessionNameOf } from '../cloud/aws-session.ts'
import type { Connector } from '../connector.ts'
import { leaseOwnerOf } from './lease-owner.ts'
import { parseJson } from '../token-endpoint/ask.ts'

/** A login that is rotated the next moment is not handed out for long (ms): it is read again then. */
const MIN_USE_MS = 1000

/**
 * `dynamic`: a credential that an engine of a backend makes for one user, or one server, and ends with its lease; or, for a static role,
 * the login that the backend rotates by itself, for as long as it is the right one; or a token of Google Cloud, which has no lease.
 */
export const createDynamicConnector = (options: {
  leases: Pick<Leases, 'obtain'>
  backendOf: (id: string) => DynamicSecrets | undefined
  engineOf: (id: string) => LeasedSecrets | undefined
  tokensOf: (id: string) => IssuedTokens | undefined
  clock: Clock
}): Connector => ({
  kind: 'dynamic',
  async obtain(request) {
    const {
      backend,
      engine,
      role,
      role_kind: kind,
      sts,
      lifetime: longest,
    } = request.downstream as DownstreamOf<'dynamic'>
    const common = {
      issuedTokenType: SECRET_TOKEN_TYPE,
      tokenType: 'N_A',
      scopes: request.scopes,
      overScoped: false,
    } as const
    const question = engineQuestionOf(request.downstream)!
    const now = options.clock.now()
    const lifetime = longest ?? Infinity
    if (kind === 'static') {
      const { value, remaining } = await present(options.backendOf(backend), backend).readStatic(role)
      return {
        ...common,
        volatile: true,
        token: value,
        expiresAt: Math.min(now + Math.min(Math.max(remaining, MIN_USE_MS), lifetime), request.notAfter),
        auditNote: `The login of the static role ${role} was read from the backend ${backend}.`,
      }
    }
    if (!question.leased) {
      const { value, expiresAt } = await present(options.tokensOf(question.backend), backend).issue(question.role)
      if (expiresAt <= options.clock.now())
        throw refuse('secret_backend_refused', { backend, problem: 'it issued a token that has expired' })
      return {
        ...common,
        issuedTokenType: ACCESS_TOKEN_TYPE,
        tokenType: 'Bearer',
        token: value,
        expiresAt: Math.min(expiresAt, now + lifetime, request.notAfter),
        auditNote: `The backend ${backend} had a token issued for ${question.role}.`,
      }
    }
    const wish = sts === undefined ? undefined : { name: sessionNameOf(request), duration: longest }
    const { value, lease, expiresAt } = await options.leases.obtain(leaseOwnerOf(request), question, async () =>
      present(options.engineOf(question.backend), backend).make(question.role, wish),
    )
    const until = Math.min(expiresAt, now + lifetime, request.notAfter)
    return {
      ...common,
      token: engine === 'aws' ? asProcessCredential(value, until) : value,
      grant: lease,
      expiresAt: until,
      auditNote: `The backend ${backend} made it for the role ${role}, under the lease ${lease}.`,
    }
  },
})

const asProcessCredential = (value: Secret, until: number): Secret =>
  processCredentialOf(keysSchema.parse(parseJson(value.reveal())), until)
