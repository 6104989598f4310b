import { callbackUrlOf, type Provider } from '#config'
import { refuse } from '#errors'
import { createAttempts, type ConnectRequest } from './attempt.ts'
import { createAuthorization } from './authorization.ts'
import { createClientConsents } from './client-consent.ts'
import { createClientSteps } from './client-steps.ts'
import { createGrantSteps } from './grant-steps.ts'
import { createLoginSteps } from './login-steps.ts'
import { donePage } from './page.ts'
import { ownerOf, partiesOf, tenantInForce } from './parties.ts'
import { createSignIn, type SignedIn } from './sign-in.ts'
import { sharesSignIn } from './tenant-choice.ts'
import {
  assertBrowser,
  onlyState,
  type ConnectFlow,
  type FlowDependencies,
  type StepAnswer,
  type StepDependencies,
} from './step.ts'

/** The parts that the steps share. */
const createSteps = (deps: FlowDependencies): StepDependencies => {
  const attempts = createAttempts({ ...deps, store: deps.store.attempts })
  const redirectUri = (provider: Provider): string => callbackUrlOf(deps.baseUrl(), provider)
  return {
    ...deps,
    attempts,
    authorization: createAuthorization({ ...deps, attempts, redirectUri }),
    record: (event, outcome, wish, detail) =>
      deps.audit.append({ id: wish.correlationId, event, outcome, ...ownerOf(wish), detail: { ...detail } }),
  }
}

/**
 * The order of a flow is the security of it: the link says what is asked, signing in shows who opened it, only the user
 * for whom it was asked sees the consent page, and only after consent does a request to the service exist. Every step
 * is single-use and bound to the browser that began it.
 */
export const createConnectFlow = (deps: FlowDependencies): ConnectFlow => {
  const steps = createSteps(deps)
  const { attempts } = steps
  const signIn = createSignIn({ ...deps, attempts, redirectUri: () => `${deps.baseUrl()}/connect/signed-in` })
  const grant = createGrantSteps(steps)
  const login = createLoginSteps(steps)
  const client = createClientSteps({
    ...steps,
    signIn,
    clientConsents: createClientConsents(deps.store.consents, deps.cookieKey),
  })

  /** Where the company's identity provider decides what the user's servers may have, the sign-in is all that was missing. */
  const onlySignedIn = async (
    { wish, link }: { wish: ConnectRequest; link: string },
    who: SignedIn,
    service: string,
  ): Promise<StepAnswer> => {
    await steps.record('connect.signed_in', 'done', wish, { issuer: who.issuer })
    await deps.identityTokens.keep({ tenant: wish.tenant, user: who.user, issuer: who.issuer }, who.idToken)
    await attempts.take('connect', link).catch(() => undefined)
    deps.links.used()
    return {
      page: donePage('Signed in', `${service} can be asked for now. Go back to where you came from and try again.`),
    }
  }

  /** Threat 11: who opened the link must be who asked. Nothing was stored for another user before, and nothing is now. */
  const wrongUser = async (wish: ConnectRequest, link: string, user: string): Promise<StepAnswer> => {
    await steps.record('connect.refused', 'refused', wish, {
      error: {
        code: 'connect_wrong_user',
        message: 'another user opened the link',
        next: 'Send the link only to the user who asked for the connection.',
      },
      opened_by: user,
    })
    // The identity provider would sign the same user in again, unasked.
    return { refused: refuse('connect_wrong_user'), otherAccount: `/connect/${link}?account=other` }
  }

  return {
    async begin(kind, link, { browser, isOtherAccount }) {
      const purpose =
        kind === 'connect'
          ? ({ kind, link, wish: await attempts.look('connect', link) } as const)
          : ({ kind, link, wish: await attempts.look('login', link) } as const)
      if (purpose.kind === 'connect') partiesOf(deps, purpose.wish)
      const tenant = tenantInForce(deps.snapshot(), purpose.wish.tenant)
      return { redirect: await signIn.begin(tenant, browser(), purpose, isOtherAccount) }
    },
    async signedIn(answer, browser) {
      const step = await attempts.take('sign_in', onlyState(answer))
      assertBrowser(browser, step.browser)
      const { purpose } = step
      const snapshot = deps.snapshot()
      const tenant = tenantInForce(snapshot, purpose.wish.tenant)
      const others = purpose.kind === 'client' ? purpose.others : []
      const sharing = others
        .flatMap((id) => snapshot.tenants.get(id) ?? [])
        .filter((other) => other.enabled && sharesSignIn(other, tenant))
      const who = await signIn.complete(answer, step, [tenant, ...sharing])
      if (purpose.kind === 'client') return client.askConsent(purpose, step.browser, who)
      if (purpose.kind === 'login') return login.confirm(purpose, step.browser, who)
      const { wish, link } = purpose
      if (who.user !== wish.user) return wrongUser(wish, link, who.user)
      const { downstream } = partiesOf(deps, wish)
      if (downstream.credential !== 'oauth_grant')
        return onlySignedIn(purpose, who, downstream.name ?? downstream.downstream)
      const display = who.display === undefined ? {} : { display: who.display }
      return grant.askConsent({ browser: step.browser, link, wish, ...display })
    },
    consented: grant.consented,
    authorized: grant.authorized,
    confirmed: login.confirmed,
    beginClient: client.beginClient,
    clientConsented: client.clientConsented,
    clientDecided: client.clientDecided,
  }
}
