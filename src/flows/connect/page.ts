/** Text that is put into a page as it is; everything else is escaped. */
class Markup {
  readonly text: string
  constructor(text: string) {
    this.text = text
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => ESCAPES[character]!)

type Part = string | number | Markup | readonly Markup[]

const toText = (part: Part): string =>
  part instanceof Markup
    ? part.text
    : typeof part === 'object'
      ? part.map(({ text }) => text).join('')
      : escape(String(part))

/** HTML out of a template: whatever is put in is escaped, unless it is markup itself. */
export const html = (strings: TemplateStringsArray, ...parts: readonly Part[]): Markup =>
  new Markup(strings.reduce((page, text, at) => `${page}${toText(parts[at - 1] ?? '')}${text}`))

export type { Markup }

export const STYLE = `
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 36rem; overflow-wrap: anywhere; padding: 1.5rem 1rem; }
h1 { font-size: 1.4rem; line-height: 1.25; }
fieldset { border: 1px solid #8888; border-radius: .5rem; margin: 1rem 0; padding: .5rem 1rem; }
label { display: block; padding: .4rem 0; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; }
input:not([type=checkbox]) { border: 1px solid #8888; border-radius: .5rem; box-sizing: border-box; display: block; font: inherit; margin: .3rem 0; padding: .6rem; width: 100%; }
[role=alert], [role=note] { border-left: 4px solid #b26a00; padding-left: .8rem; }
ul.choices { list-style: none; padding: 0; }
ul.choices a { border: 1px solid #8888; border-radius: .5rem; display: block; margin: .5rem 0; padding: .6rem 1.2rem; }
button { border: 1px solid #8888; border-radius: .5rem; cursor: pointer; font: inherit; margin: 0 .5rem .5rem 0; padding: .6rem 1.2rem; }
button.allow { background: #0b5cad; border-color: #0b5cad; color: #fff; }
a:focus-visible, button:focus-visible, input:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
.id { color: light-dark(#595959, #b0b0b0); font-size: .85rem; }
`

/**
 * A whole page: plain, without scripts, readable on a phone and by a screen reader.
 * @param onward where the browser goes on to by itself
 */
export const page = (title: string, body: Markup, onward?: string): string =>
  `<!doctype html>\n${
    html`<html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        ${onward === undefined ? '' : html`<meta http-equiv="refresh" content="0;url=${onward}" />`}
        <title>${title} · Deputy</title>
        <link rel="stylesheet" href="/connect/style.css" />
      </head>
      <body>
        <main>
          <h1>${title}</h1>
          ${body}
        </main>
      </body>
    </html>`.text
  }`

const otherAccountLink = (url: string): Markup => html`<p><a href="${url}">Use another account</a></p>`

export interface ConsentView {
  readonly server: string
  readonly owner: string
  readonly service: string
  readonly user: string
  readonly tenant: string
  readonly scopes: readonly { readonly scope: string; readonly words: string }[]
  readonly until: string
  readonly redirectHost: string
  readonly csrf: string
}

/** Who asks, for which service, which scopes, until when, and where the browser goes next. */
export const consentPage = (view: ConsentView): string =>
  page(
    `Connect ${view.service}?`,
    html` <p><strong>${view.server}</strong> wants to use <strong>${view.service}</strong> for you.</p>
      <dl>
        <dt>You are</dt>
        <dd>${view.user} (${view.tenant})</dd>
        <dt>The server belongs to</dt>
        <dd>${view.owner}</dd>
        <dt>You go on to</dt>
        <dd>${view.redirectHost}</dd>
        <dt>Your consent is remembered until</dt>
        <dd>${view.until}</dd>
      </dl>
      <form method="post" action="/connect/consent">
        <input type="hidden" name="csrf" value="${view.csrf}" />
        <fieldset>
          <legend>It may</legend>
          ${view.scopes.map(
            ({ scope, words }, at) =>
              html`<label for="scope-${at}"
                ><input type="checkbox" id="scope-${at}" name="scope-${at}" value="${scope}" checked /> ${words}
                <span class="id">(${scope})</span></label
              > `,
          )}
        </fieldset>
        <button class="allow" name="decision" value="allow">Allow</button>
        <button name="decision" value="deny">Do not allow</button>
      </form>`,
  )

export interface LoginView {
  readonly user: string
  readonly tenant: string
  readonly uid: number
  readonly csrf: string
  /** Where the user signs in as another. */
  readonly otherAccount: string
}

/** Asked before a Unix user may act for the person who has signed in. */
export const loginPage = (view: LoginView): string =>
  page(
    'Let this computer act for you?',
    html` <p>
        Programs of the Unix user with the number <strong>${view.uid}</strong> on the computer that runs Deputy will act
        as <strong>${view.user}</strong> of ${view.tenant}.
      </p>
      <p>
        Go on only if you have just typed <code>deputy login</code> there yourself. Stop if another person sent you this
        link.
      </p>
      <form method="post" action="/login/confirm">
        <input type="hidden" name="csrf" value="${view.csrf}" />
        <button class="allow" name="decision" value="allow">Yes, that was me</button>
        <button name="decision" value="deny">No</button>
      </form>
      ${otherAccountLink(view.otherAccount)}`,
  )

/**
 * Leads to another site after a form. Browsers hold redirects of a form's answer to `form-action`, and where this form leads is
 * known only once it is answered.
 */
export const onwardPage = (url: URL): string =>
  page('One moment', html`<p>You go on to <a href="${url.href}">${url.host}</a>.</p>`, url.href)

export const donePage = (title: string, sentence: string): string =>
  page(
    title,
    html`<p>${sentence}</p>
      <p>You can close this page.</p>`,
  )

/** @param otherAccount where the user signs in as another, if that may help */
export const errorPage = (sentence: string, next: string, correlationId: string, otherAccount?: string): string =>
  page(
    'This did not work',
    html` <p>${sentence}</p>
      <p>${next}</p>
      ${otherAccount === undefined ? '' : otherAccountLink(otherAccount)}
      <p class="id">Correlation id: ${correlationId}</p>`,
  )
