'use strict';
const root = document.documentElement;
root.classList.add('js');

// A box filters the items of a list by words, all of which an item must have.
const boxes = [...document.querySelectorAll('input[data-of]')];
for (const box of boxes) {
  const list = document.getElementById(box.dataset.of);
  const said = document.getElementById(box.dataset.said);
  const what = said.textContent.replace(/^\d+ /, '');
  const items = [...list.querySelectorAll('[data-item]')];
  const texts = items.map(item => ((item.closest('[data-group]')?.querySelector('h3').textContent ?? '') + ' ' + item.textContent).toLowerCase());
  const only = document.querySelector(`input[data-only="${list.id}"]`);
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    items.forEach((item, i) => {
      item.hidden = !words.every(word => texts[i].includes(word)) || only?.checked && !item.classList.contains('failed');
      shown += !item.hidden;
    });
    for (const group of list.querySelectorAll('[data-group]')) group.hidden = !group.querySelector('[data-item]:not([hidden])');
    const nothing = list.querySelector('.nothing');
    if (nothing) nothing.hidden = shown > 0;
    if (list instanceof HTMLDetailsElement && words.length) list.open = true;
    said.textContent = shown < items.length ? `${shown} of ${items.length} ${what}` : `${shown} ${what}`;
  };
  box.addEventListener('input', filter);
  only?.addEventListener('change', filter);
  box.addEventListener('keydown', event => {
    if (event.key === 'Escape') { box.value = ''; filter(); }
  });
}
document.addEventListener('keydown', event => {
  if (event.key === '/' && !event.ctrlKey && !event.metaKey && !event.altKey && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) {
    event.preventDefault();
    boxes[0]?.focus();
  }
});

// One button unfolds a whole list and folds it again.
for (const button of document.querySelectorAll('button[data-fold]')) {
  button.addEventListener('click', () => {
    const open = button.textContent === 'Unfold all';
    for (const item of document.querySelectorAll(`#${button.dataset.fold} details`)) item.open = open;
    button.textContent = open ? 'Fold all' : 'Unfold all';
  });
}

// A link to a claim unfolds it.
const unfold = () => {
  const item = location.hash && document.getElementById(location.hash.slice(1));
  if (item instanceof HTMLDetailsElement) item.open = true;
};
addEventListener('hashchange', unfold);
unfold();

// On paper everything is unfolded.
let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('details.claim:not([open])')];
  for (const item of folded) item.open = true;
});
addEventListener('afterprint', () => {
  for (const item of folded) item.open = false;
});
