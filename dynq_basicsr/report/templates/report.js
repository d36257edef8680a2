'use strict';
for (const comparison of document.querySelectorAll('.comparison')) {
  const frame = comparison.querySelector('.frame');
  const images = [...frame.querySelectorAll('img')];
  const { left, right, split, bits } = Object.fromEntries(
    [...comparison.querySelectorAll('select, input')].map((control) => [control.name, control]));

  const show = () => {
    frame.style.setProperty('--split', `${split.value}%`);
    for (const image of images) {
      const isLeft = image.dataset.way === left.value, isRight = image.dataset.way === right.value;
      if (isLeft || isRight) image.dataset.side = isLeft && isRight ? 'both' : isLeft ? 'left' : 'right';
      else delete image.dataset.side;
    }
    frame.querySelector('.tag.left').textContent = left.value;
    frame.querySelector('.tag.right').textContent = right.value;
    frame.querySelector('.bits').hidden = !bits.checked;
    split.setAttribute('aria-valuetext', `${split.value} % ${left.value}, ${100 - split.value} % ${right.value}`);
  };
  const follow = (event) => {
    if (!event.buttons) return;
    const place = frame.getBoundingClientRect();
    split.value = Math.round(100 * (event.clientX - place.left) / place.width);
    show();
  };
  for (const event of ['input', 'change']) comparison.addEventListener(event, show);
  frame.addEventListener('pointerdown', (event) => { frame.setPointerCapture(event.pointerId); follow(event); });
  frame.addEventListener('pointermove', follow);
  frame.addEventListener('dragstart', (event) => event.preventDefault());
  addEventListener('pageshow', show);  // browsers restore controls after a reload
  show();
}
