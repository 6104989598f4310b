import { assertNotRevoked } from '#identity/validity'
import { ownValue } from '#foundation/text'
import type { GrantStore } from '#foundation/store'
import type { Step } from './attempt.ts'
import {
  assertBrowser,
  onlyState,
  shownUser,
  textOf,
  type ConnectFlow,
  type StepAnswer,
  type StepDependencies,
} from './step.ts'
import { consentPage, donePage } from './page.ts'
import { grantPartiesOf, ownerOf } from './parties.ts'

/** How long a consent is remembered (ms). */
const CONSENT_LIFETIME_MS = 365 * 86_400_000

const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10)

/** A grant that is not in the store yet. */
type NewGrant = Parameters<GrantStore['put']>[0]

/** From the sign-in to a grant: consent, the authorization at the service, and the grant in the store. */
export const createGrantSteps = (
  deps: StepDependencies,
): Pick<ConnectFlow, 'consented' | 'authorized'> & {
  /** The consent page, or the way on where the user has consented to all of it before. */
  askConsent(step: Step<'consent'>): Promise<StepAnswer>
} => {
  const { store, clock, attempts, authorization, record } = deps

  /** To the service. @param granted what the user has consented to */
  const onToService = async (
    { wish, browser, link }: Pick<Step<'consent'>, 'wish' | 'browser' | 'link'>,
    granted: readonly string[],
  ): Promise<StepAnswer> => {
    const { downstream } = grantPartiesOf(deps, wish)
    return { redirect: await authorization.begin(wish, granted, downstream, browser, link) }
  }

  /** Asked before the grant is stored, and again when it is: an admin may revoke in between, here or at another node. */
  const assertStands = ({ wish, consentedAt }: Step<'authorization'>): void => {
    const { downstream } = grantPartiesOf(deps, wish)
    const { tenant, user, server } = wish
    assertNotRevoked(
      {
        tenant,
        user,
        server,
        downstreams: [wish.downstream],
        provider: downstream.provider,
        tokens: [],
        since: consentedAt,
      },
      deps,
    )
  }

  const give = async (step: Step<'authorization'>, grant: NewGrant): Promise<void> => {
    assertStands(step)
    const replaced = await store.grants.find(grant)
    const stored = await store.grants.put(grant)
    try {
      // A revocation between the check and the write found no grant to remove: it is asked for again now.
      await deps.membership.catchUp()
      assertStands(step)
      await record('connect.complete', 'done', step.wish, {
        grant: stored.id,
        scopes: grant.scopes,
        provider: grant.provider,
      })
      if (replaced !== undefined) deps.endReplaced(replaced, stored)
    } catch (error) {
      await store.grants.remove({ id: stored.id })
      throw error
    }
  }

  return {
    async askConsent(step) {
      const { wish, display } = step
      const { server, downstream } = grantPartiesOf(deps, wish)
      const remembered = await store.consents.find(ownerOf(wish))
      const isRemembered =
        remembered !== undefined &&
        remembered.until > clock.now() &&
        wish.scopes.every((scope) => remembered.granted.includes(scope))
      if (isRemembered) return onToService(step, wish.scopes)
      const csrf = await attempts.begin('consent', wish.tenant, step)
      // Browsers hold a form's redirects to `form-action` as well: the one place that it may lead to is named.
      const target = await authorization.target(wish, downstream)
      const page = consentPage({
        server: server.name ?? server.server,
        owner: server.owner,
        service: downstream.name ?? downstream.downstream,
        user: shownUser(wish.user, display),
        tenant: wish.tenant,
        csrf,
        scopes: wish.scopes.map((scope) => ({ scope, words: ownValue(downstream.scopes, scope) ?? scope })),
        until: dayOf(clock.now() + CONSENT_LIFETIME_MS),
        redirectHost: target.host,
      })
      return { page, formTarget: target.origin }
    },

    async consented(form, browser) {
      const step = await attempts.take('consent', textOf(form['csrf']))
      assertBrowser(browser, step.browser)
      const { wish, display } = step
      const known = display === undefined ? {} : { display }
      grantPartiesOf(deps, wish)
      const granted = wish.scopes.filter((scope, at) => form[`scope-${at}`] === scope)
      if (form['decision'] !== 'allow' || (granted.length === 0 && wish.scopes.length > 0)) {
        await record('connect.consent', 'refused', wish, {
          ...known,
          asked: { scopes: wish.scopes },
          decision: { allowed: false },
        })
        return { page: donePage('Nothing was connected', 'You did not allow it, so the server gets nothing.') }
      }
      await record('connect.consent', 'done', wish, { ...known, asked: { scopes: wish.scopes }, granted })
      const at = clock.now()
      const until = at + CONSENT_LIFETIME_MS
      await store.consents.put({ ...ownerOf(wish), asked: wish.scopes, granted, at, until })
      return onToService(step, granted)
    },

    async authorized(answer, browser) {
      const step = await attempts.take('authorization', onlyState(answer))
      assertBrowser(browser, step.browser)
      const { downstream } = grantPartiesOf(deps, step.wish)
      const { grant, end } = await authorization.complete(answer, step, downstream)
      try {
        await give(step, grant)
      } catch (error) {
        await end().catch((failure: unknown) => {
          deps.logger.warn({ err: failure }, 'tokens that were not kept could not be ended at their provider')
        })
        throw error
      }
      await attempts.take('connect', step.link).catch(() => undefined)
      deps.links.used()
      const service = downstream.name ?? downstream.downstream
      return {
        page: donePage('Connected', `${service} is connected. Go back to where you came from and try again.`),
      }
    },
  }
}
