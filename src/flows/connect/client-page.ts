import { html, page, type Markup } from './page.ts'

export interface ClientConsentView {
  readonly client: string
  /** What the user can rely on: the host of the client's document, or who answers for its file. */
  readonly provenBy: string | undefined
  readonly server: string
  readonly owner: string
  readonly user: string
  readonly tenant: string
  readonly scopes: readonly string[]
  /** Undefined: the client is on another device, without a browser. */
  readonly redirectHost: string | undefined
  /** Whether the client runs on the user's own machine, where any program can pass for it. */
  readonly isLocal: boolean
  readonly interaction: string
  readonly csrf: string
}

const localWarning = (client: string): Markup =>
  html`<p role="note">
    <strong>Only the address on this computer says that this is ${client}.</strong> Allow it only if you have just
    started the sign-in there yourself.
  </p>`

const deviceWarning = (client: string): Markup =>
  html`<p role="note">
    <strong>${client} runs on another device.</strong> Allow it only if you have just started it there yourself.
  </p>`

/** Which client asks, for which server, as whom, and where the browser goes next. */
export const clientConsentPage = (view: ClientConsentView): string =>
  page(
    `Let ${view.client} use ${view.server}?`,
    html` <p><strong>${view.client}</strong> wants to use <strong>${view.server}</strong> for you.</p>
      ${view.isLocal ? localWarning(view.client) : ''}
      ${view.redirectHost === undefined ? deviceWarning(view.client) : ''}
      <dl>
        <dt>You are</dt>
        <dd>${view.user} (${view.tenant})</dd>
        <dt>The client is proved by</dt>
        <dd>${view.provenBy ?? 'nothing but its name; it has registered itself'}</dd>
        <dt>You go on to</dt>
        <dd>${view.redirectHost ?? 'the device that shows the code'}</dd>
        <dt>The server belongs to</dt>
        <dd>${view.owner}</dd>
        <dt>It may</dt>
        ${
          view.scopes.length === 0
            ? html`<dd>use the server as you</dd>`
            : view.scopes.map((scope) => html`<dd>${scope}</dd>`)
        }
      </dl>
      <form method="post" action="/sign-in/${view.interaction}/consent">
        <input type="hidden" name="csrf" value="${view.csrf}" />
        <button class="allow" name="decision" value="allow">Allow</button>
        <button name="decision" value="deny">Do not allow</button>
      </form>`,
  )

/** Shown where a client has to be approved by an administrator first. The id is what the administrator needs. */
export const waitingPage = (view: { readonly client: string; readonly id: string; readonly server: string }): string =>
  page(
    `${view.client} is not approved yet`,
    html` <p>
        An administrator has to approve this client before anyone can use <strong>${view.server}</strong> with it. Send
        them its id:
      </p>
      <p><code>${view.id}</code></p>
      <p>
        They run <code>deputy client approve</code> with it. Then start again in the client, or load this page again.
      </p>`,
  )

/** Asked where users of several tenants sign in at one server. */
export const tenantPage = (view: {
  readonly server: string
  readonly interaction: string
  readonly tenants: readonly { readonly tenant: string; readonly name: string }[]
}): string =>
  page(
    `Sign in to ${view.server}`,
    html` <p>Choose the organization that you sign in with.</p>
      <ul class="choices">
        ${view.tenants.map(
          ({ tenant, name }) => html`<li><a href="/sign-in/${view.interaction}?tenant=${tenant}">${name}</a></li>`,
        )}
      </ul>`,
  )

/** Asked where a page that lists the organizations would tell a server's customers to the world. @param view.unknown the domain that belongs to none */
export const emailPage = (view: {
  readonly server: string
  readonly interaction: string
  readonly unknown: string | undefined
}): string =>
  page(
    `Sign in to ${view.server}`,
    html` ${
        view.unknown === undefined
          ? ''
          : html`<p role="alert">No organization with addresses at <strong>${view.unknown}</strong> signs in here.</p>`
      }
      <p>Type the e-mail address that you have at your organization.</p>
      <form method="post" action="/sign-in/${view.interaction}">
        <label>E-mail address <input name="email" type="email" autocomplete="email" required /></label>
        <button class="allow">Continue</button>
      </form>`,
  )
