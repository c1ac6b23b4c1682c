// Asks the device for what the form's options say, and sends its answer with the form.
"use strict";

const bytes = (told) =>
  Uint8Array.from(atob(told.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const letters = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

function read(options) {
  options.challenge = bytes(options.challenge);
  if (options.user) options.user.id = bytes(options.user.id);
  for (const list of [options.excludeCredentials, options.allowCredentials])
    for (const one of list || []) one.id = bytes(one.id);
  return options;
}

function written(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"])
    if (credential.response[name]) response[name] = letters(credential.response[name]);
  return JSON.stringify({
    id: credential.id, rawId: letters(credential.rawId), type: credential.type, response,
    clientExtensionResults: {},
  });
}

async function ask(form) {
  const publicKey = read(JSON.parse(form.dataset.options));
  try {
    const credential = await (form.dataset.way === "create"
      ? navigator.credentials.create({ publicKey })
      : navigator.credentials.get({ publicKey }));
    form.elements.answer.value = written(credential);
    form.submit();
  } catch (error) {
    document.getElementById("failed").hidden = false;
  }
}

const form = document.querySelector("form[data-options]");
form.addEventListener("submit", (event) => { event.preventDefault(); ask(form); });
if (form.dataset.way === "get") ask(form);
