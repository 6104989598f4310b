import { type Server, servesTenant, type Snapshot, type Tenant } from '#config'
import { refuse } from '#errors'
import { isClientAllowed } from '#identity/client'
import type { WaitingClient } from './attempt.ts'
import { emailPage, tenantPage, waitingPage } from './client-page.ts'
import { serverOf } from './parties.ts'
import type { createSignIn } from './sign-in.ts'
import type { ConnectFlow, StepAnswer, StepDependencies } from './step.ts'
import { chooseTenant, type TenantChoice } from './tenant-choice.ts'

type Dependencies = StepDependencies & { readonly signIn: ReturnType<typeof createSignIn> }

/** The tenants whose users can sign in at a server. */
const tenantsAt = (server: Server, { tenants }: Snapshot): Tenant[] =>
  [...tenants.values()].filter(
    ({ tenant, enabled, sign_in: signIn }) => enabled && signIn !== undefined && servesTenant(server.tenants, tenant),
  )

/** Asks for the organization. @throws DeputyError `connect_invalid` where there is none */
const choicePage = (
  choice: Exclude<TenantChoice, { kind: 'sign_in' }>,
  { interaction }: WaitingClient,
  { server, name = server }: Server,
): string => {
  if (choice.kind === 'none') throw refuse('connect_invalid', { problem: 'no organization signs in at this server' })
  if (choice.kind === 'email') return emailPage({ server: name, interaction, unknown: choice.unknown })
  return tenantPage({
    server: name,
    interaction,
    tenants: choice.tenants.map((each) => ({ tenant: each.tenant, name: each.name ?? each.tenant })),
  })
}

/** A client's request waits for the user: which tenant, and on to its identity provider. @throws DeputyError `connect_invalid` and others */
export const beginClient = async (
  deps: Dependencies,
  waiting: WaitingClient,
  { browser, tenant: chosen, email, isOtherAccount }: Parameters<ConnectFlow['beginClient']>[1],
): Promise<StepAnswer> => {
  const snapshot = deps.snapshot()
  const server = serverOf(snapshot, waiting.server)
  const client = await deps.clientRegistry.find(waiting.client)
  if (client?.isApproved === false) {
    await deps.clientRegistry.waits(waiting.client)
    return { page: waitingPage({ client: client.name, id: client.id, server: server.name ?? server.server }) }
  }
  const tenants = tenantsAt(server, snapshot).filter(({ tenant }) =>
    isClientAllowed(waiting.client, { tenant, server: server.server }, snapshot),
  )
  const choice = chooseTenant(tenants, { chosen, email: email ?? waiting.loginHint })
  if (choice.kind !== 'sign_in') return { page: choicePage(choice, waiting, server) }
  const [{ tenant }, ...others] = choice.tenants
  const purpose = {
    kind: 'client' as const,
    wish: { ...waiting, tenant, ...(email === undefined ? {} : { loginHint: email }) },
    others: others.map((other) => other.tenant),
  }
  return { redirect: await deps.signIn.begin(choice.tenants[0], browser(), purpose, isOtherAccount) }
}
